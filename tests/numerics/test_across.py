"""ACROSS, from token ids to J and every parameter's gradient, against the paper's loops; and its queue."""

import dataclasses
from typing import Any

import across_reference
import pytest
import torch
from test_objective import example_rows, mixed_batch
from torch import Tensor

from models.network import Network
from models.objectives.across import Across
from models.objectives.across_config import AcrossConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    made = Network(tiny_config(), 50, PAD_ID, EOS_ID).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def build(**flags: Any) -> Across:
    mls = network(1).eval().requires_grad_(False)
    return Across(AcrossConfig(**flags), network(0), {"mls": mls}).double()


def rows_of(batch: Batch) -> list[dict]:
    return [row | {"language": int(batch.target_language_B[b])} for b, row in enumerate(example_rows(batch))]


def expected(objective: Across, batch: Batch, queue: list[dict]) -> tuple[dict, dict[str, Tensor]]:
    def params(of: Network) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in of.named_parameters()}

    trained = {name: tensor.requires_grad_() for name, tensor in params(objective.network).items()}
    config = objective.network.config
    setup = {
        "text_layers": config.text.num_layers,
        "text_heads": config.text.num_heads,
        "vision_layers": config.vision.num_layers,
        "vision_heads": config.vision.num_heads,
        "fusion_heads": config.fusion.num_heads,
    }
    flags = objective.config.model_dump()
    result = across_reference.objective(
        trained, params(objective.references["mls"]), rows_of(batch), setup, flags, queue
    )
    result["J"].backward()
    return result, trained


def queued(objective: Across) -> list[dict]:
    fields = (objective.queue_NE, objective.queue_story_N.tolist(), objective.queue_language_N.tolist())
    return [
        {"state": state, "story": story, "language": language}
        for state, story, language in zip(*fields, strict=True)
        if story >= 0
    ]


def fill(objective: Across, batch: Batch) -> None:
    """Do what the trainer does after a step on one rank."""
    outputs = outputs_of(objective, batch, 0)
    real = batch.weight_B > 0
    with torch.no_grad():
        objective.after_step(1, {}, {name: rows[real] for name, rows in outputs.keep.items()})


@pytest.mark.parametrize("filled", [False, True])
def test_terms_loss_and_gradients_equal_the_papers(filled: bool) -> None:
    objective, batch = build(beta=0.7, gamma=1.5, temperature=0.5, negatives=5), mixed_batch()
    if filled:
        fill(objective, random_batch(rows=4, seed=9))
        fill(objective, batch)  # the same stories: no negatives of themselves
        assert len(queued(objective)) == 5
    outputs = outputs_of(objective, batch, 3)
    result, params = expected(objective, batch, queued(objective))
    for name, (total, count) in result["terms"].items():
        term = outputs.terms[name]
        assert term.sum.item() == pytest.approx(total.item(), rel=1e-5, abs=1e-9), name
        assert term.count == count
    loss = sum(term.weight * term.sum / term.count for term in outputs.terms.values())
    assert loss.item() == pytest.approx(result["J"].item(), rel=1e-5)
    loss.backward()
    for name, parameter in objective.network.named_parameters():
        theirs = params[name].grad
        theirs = torch.zeros_like(parameter) if theirs is None else theirs
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert all(parameter.grad is None for parameter in objective.references["mls"].parameters())


@pytest.mark.parametrize(
    "flags", [{"contrast": False}, {"consistency": False}, {"contrast": False, "consistency": False}]
)
def test_a_part_that_is_left_out_changes_no_other(flags: dict[str, bool]) -> None:
    whole, part = (outputs_of(build(**of_one), mixed_batch(), 3).terms for of_one in ({}, flags))
    assert list(part) == [name for name in whole if flags.get(name, True)]
    for name, term in part.items():
        torch.testing.assert_close(term.sum, whole[name].sum)


def test_the_queue_holds_each_document_once_and_drops_the_oldest() -> None:
    objective, batch = build(negatives=4), random_batch(rows=3, seed=1)
    batch = dataclasses.replace(batch, story_B=torch.tensor([4, 4, 6]), target_language_B=torch.tensor([1, 1, 2]))
    fill(objective, batch)
    assert [(one["story"], one["language"]) for one in queued(objective)] == [(4, 1), (6, 2)]
    other = dataclasses.replace(batch, story_B=torch.tensor([7, 8, 9]))
    fill(objective, other)
    assert sorted((one["story"], one["language"]) for one in queued(objective)) == [(6, 2), (7, 1), (8, 1), (9, 2)]
    result, _ = expected(objective, other, queued(objective))
    by_story = {one["story"]: one["state"] for one in queued(objective)}
    for row, story in enumerate((7, 8, 9)):
        torch.testing.assert_close(by_story[story], result["documents"][row], rtol=1e-5, atol=1e-6)


def test_a_step_in_which_nothing_could_be_read_leaves_the_queue() -> None:
    objective, batch = build(negatives=4), random_batch(rows=2, seed=1)
    fill(objective, batch)
    before = objective.queue_NE.clone()
    fill(objective, dataclasses.replace(batch, weight_B=torch.zeros(2)))
    assert torch.equal(objective.queue_NE, before)


def test_evaluated_without_the_reference() -> None:
    network_alone = Across(AcrossConfig(), network(0), {})
    assert network_alone.product is network_alone.network
    assert set(network_alone.state_dict()) >= {"queue_NE", "queue_story_N", "queue_language_N", "queue_end"}
