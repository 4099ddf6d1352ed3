"""The sums behind a logged step."""

import dataclasses
import math

import pytest
import torch

from models.network import Network
from models.objectives.d2tv import BRANCHES, D2TV, D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from tests.support.intervals import INTERVAL
from tests.support.objectives import outputs_of
from trainer.interval import RankFacts
from trainer.telemetry.totals import Totals


def test_totals_add_up_to_what_one_big_batch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micro-batches and placeholders against the sums over rows, written out."""
    monkeypatch.setattr("trainer.telemetry.totals.sum_over_ranks", lambda values: values)  # one rank, no group
    torch.manual_seed(0)
    objective = D2TV(D2TVConfig(), Network(tiny_config(), 50, PAD_ID, EOS_ID)).eval()
    batches = [
        dataclasses.replace(
            random_batch(rows=5, seed=seed),
            target_language_B=torch.tensor([0, 1, 1, 2, 0]),
            source_language_B=torch.tensor([0, 2, 1, 0, 2]),
            cross_B=torch.tensor([False, True, False, True, True]),
        )
        for seed in (1, 2)
    ]
    batches[1].weight_B[4] = 0
    outputs = [outputs_of(objective, batch, 0) for batch in batches]
    totals = Totals(tuple(outputs[0].terms), BRANCHES, 3, torch.device("cpu"))
    assert totals.wants_flops
    for out, batch in zip(outputs, batches, strict=True):
        totals.add_micro_batch(out, batch, torch.tensor(1.5), 10)
    totals.add_step(seconds=2.0)
    poisoned = dataclasses.replace(outputs[0], row_nll={k: v * math.nan for k, v in outputs[0].row_nll.items()})
    totals.add_micro_batch(poisoned, batches[0], torch.tensor(math.nan), 1000)
    totals.skip_step()  # which leaves no trace
    interval = totals.reduce(RankFacts(busy_seconds=1.5, data_wait_seconds=0.5, read_retries=3))

    assert interval.total_loss == 3.0
    assert (interval.steps, interval.seconds, interval.data_wait_seconds) == (1, 2.0, 0.5)
    assert interval.read_retries == 3
    assert interval.flops == 20
    assert interval.slowest_rank == (0, 0.0)
    for name in outputs[0].terms:
        total = sum(out.terms[name].sum.item() for out in outputs)
        count = sum(out.terms[name].count for out in outputs)
        assert interval.loss[name] == pytest.approx(total / count, rel=1e-5)
    examples = {"mms": [0.0] * 3, "mxls": [0.0] * 3}
    tokens = {"mms": [0.0] * 3, "mxls": [0.0] * 3}
    nats = {"mms": [0.0] * 3, "mxls": [0.0] * 3}
    direction_nats, direction_tokens, direction_examples = [0.0] * 9, [0.0] * 9, [0.0] * 9
    for out, batch in zip(outputs, batches, strict=True):
        for row in range(5):
            language, length = int(batch.target_language_B[row]), float(batch.summary_mask_BN[row].sum())
            if batch.weight_B[row] == 0:
                continue
            examples["mxls" if batch.cross_B[row] else "mms"][language] += 1
            direction = 3 * language + int(batch.source_language_B[row])
            direction_tokens[direction] += length
            direction_examples[direction] += 1
            direction_nats[direction] += float(out.row_nll["mxls" if batch.cross_B[row] else "mms"][row])
            tokens["mms"][language] += length  # the teacher learns from every row
            nats["mms"][language] += float(out.row_nll["mms"][row])
            if batch.cross_B[row]:
                tokens["mxls"][language] += length
                nats["mxls"][language] += float(out.row_nll["mxls"][row])
    assert interval.examples == examples
    assert interval.tokens == tokens
    assert interval.tokens_TS.ravel().tolist() == direction_tokens
    assert interval.examples_TS.ravel().tolist() == direction_examples
    assert interval.nats_TS.ravel().tolist() == pytest.approx(direction_nats, rel=1e-5)
    for kind in ("mms", "mxls"):
        assert interval.nll[kind] == pytest.approx(sum(nats[kind]) / sum(tokens[kind]), rel=1e-5)

    assert totals.steps == 0  # and starts anew
    totals.add_step(seconds=1.0)
    empty = totals.reduce(RankFacts())
    assert empty.steps == 1
    assert empty.loss == empty.nll == {}  # what was not trained has no loss, not a perfect one


def test_many_steps_add_up_as_few_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are added up in between; the operations of the first stand for all."""
    monkeypatch.setattr("trainer.telemetry.totals.sum_over_ranks", lambda values: values)
    torch.manual_seed(0)
    objective = D2TV(D2TVConfig(), Network(tiny_config(), 50, PAD_ID, EOS_ID)).eval()
    batch = random_batch(rows=3)
    batch = dataclasses.replace(
        batch, target_language_B=torch.tensor([0, 1, 1]), source_language_B=torch.tensor([1, 0, 1])
    )
    out = outputs_of(objective, batch, 0)
    once, often = (Totals(tuple(out.terms), BRANCHES, 2, torch.device("cpu")) for _ in range(2))
    once.add_micro_batch(out, batch, torch.tensor(1.0), 7)
    once.add_step(seconds=1.0)
    for step in range(150):
        assert often.wants_flops == (step == 0)
        often.add_micro_batch(out, batch, torch.tensor(1.0), 7 if often.wants_flops else 0)
        often.add_step(seconds=1.0)
    single, total = once.reduce(RankFacts()), often.reduce(RankFacts())
    assert total.flops == 150 * single.flops == 150 * 7
    assert total.total_loss == single.total_loss
    assert total.loss == pytest.approx(single.loss)
    assert total.nll == pytest.approx(single.nll)
    for name in ("nats_TS", "tokens_TS", "examples_TS"):
        assert getattr(total, name) == pytest.approx(150 * getattr(single, name))


def test_the_slowest_rank_is_held_against_the_median_of_all() -> None:
    ranks = tuple(RankFacts(busy_seconds=seconds) for seconds in (4.0, 4.2, 9.0, 4.1))
    interval = dataclasses.replace(INTERVAL, ranks=ranks, steps=10)
    assert interval.slowest_rank == (2, pytest.approx((9.0 - 4.1) / 10))
    two = dataclasses.replace(INTERVAL, ranks=ranks[1:3], steps=10)
    assert two.slowest_rank == (1, pytest.approx((9.0 - 4.2) / 10))


def test_every_rank_finds_all_ranks_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks' vectors added up by hand, as a reduction does."""
    vectors: list[torch.Tensor] = []

    def remember(values: torch.Tensor) -> torch.Tensor:
        vectors.append(values.clone())
        return values

    monkeypatch.setattr("trainer.telemetry.totals.sum_over_ranks", remember)
    both = [Totals(("mms",), BRANCHES, 2, torch.device("cpu"), rank=rank, world_size=2) for rank in range(2)]
    facts = [RankFacts(busy_seconds=1.0, open_files=7.0), RankFacts(busy_seconds=2.0, device_peak_bytes=3.0)]
    for totals, own in zip(both, facts, strict=True):
        totals.add_step(seconds=1.0)
        totals.reduce(own)
    monkeypatch.setattr("trainer.telemetry.totals.sum_over_ranks", lambda _: vectors[0] + vectors[1])
    both[0].add_step(seconds=1.0)
    assert both[0].reduce(facts[0]).ranks == tuple(facts)
