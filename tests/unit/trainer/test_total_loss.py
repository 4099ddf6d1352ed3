"""The loss of a global batch, however it is cut into micro-batches."""

from itertools import pairwise

import pytest
import torch

from models.network import Network
from models.objectives.base import Outputs, Term
from models.objectives.d2tv import D2TV, D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.batch.types import Batch
from tests.support.batches import take_rows
from tests.support.objectives import outputs_of
from trainer.loop import total_loss


def rows(batch: Batch, begin: int, end: int) -> Batch:
    return take_rows(batch, slice(begin, end))


def loss_and_gradient(objective: D2TV, parts: list[Batch], step: int) -> tuple[float, torch.Tensor]:
    counts: dict[str, float] = {}
    for part in parts:
        for name, count in objective.counts(part).items():
            counts[name] = counts.get(name, 0.0) + count
    objective.zero_grad()
    total = 0.0
    for part in parts:
        loss = total_loss(outputs_of(objective, part, step), counts)
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])


@pytest.mark.parametrize("cuts", [(4, 8), (2, 4, 6, 8, 10), (2, 10)])
def test_micro_batches_of_whole_groups_add_up_to_the_big_batch(cuts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    objective = D2TV(D2TVConfig(alpha_steps=10), Network(tiny_config(), 50, PAD_ID, EOS_ID))
    batch = random_batch(rows=12, groups=6, seed=3)  # rows differ in length, images and kind
    edges = [0, *cuts, 12]
    parts = [rows(batch, begin, end) for begin, end in pairwise(edges)]
    assert len({objective.counts(part)["mms"] for part in parts}) > 1  # a mean of means would be off
    whole, whole_gradient = loss_and_gradient(objective, [batch], step=3)
    summed, summed_gradient = loss_and_gradient(objective, parts, step=3)
    assert summed == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(summed_gradient, whole_gradient, rtol=1e-5, atol=1e-6)


def outputs(**terms: Term) -> Outputs:
    return Outputs(terms=terms, row_nll={}, row_tokens={}, scalars={}, real_tokens=9, computed_tokens=12)


def test_each_term_is_averaged_over_its_own_count_and_weighed() -> None:
    out = outputs(
        mms=Term(sum=torch.tensor(12.0), count=3, weight=1.0), tco=Term(sum=torch.tensor(5.0), count=1, weight=0.5)
    )
    assert float(total_loss(out, {"mms": 6.0, "tco": 2.0})) == pytest.approx(12 / 6 + 0.5 * 5 / 2)


def test_a_term_that_nothing_contributes_to_is_zero_and_keeps_the_graph() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    loss = total_loss(outputs(tco=Term(sum=weight * 0, count=0, weight=1.0)), {"tco": 0.0})
    loss.backward()
    assert float(loss.detach()) == 0
    assert weight.grad == 0
