"""Objectives that break their contract, each in one way, are refused by name before they train on."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from models.network import Network
from models.objectives.base import Group, Outputs, Watched
from models.objectives.d2tv import D2TV, D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.batch.types import Batch
from shards.errors import InputError
from trainer.contract import Contract

BATCHES = [random_batch(rows=4, seed=seed) for seed in range(2)]


@pytest.fixture(autouse=True)
def group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def check(kind: type[D2TV], steps: int = 1) -> None:
    """Do what the trainer does with its first micro-batches."""
    torch.manual_seed(0)
    objective = kind(D2TVConfig(alpha_steps=10), Network(tiny_config(dropout=0.1), 50, PAD_ID, EOS_ID)).train()
    contract = Contract(objective, "toy", repeats=True)
    for step in range(steps):
        counts = [objective.counts(batch) for batch in BATCHES]
        contract.check_counts(counts)
        for batch, own in zip(BATCHES, counts, strict=True):
            contract.rehearse(batch, step, own, seed=3)
            torch.manual_seed(3)
            contract.check_outputs(objective(batch, step, own), own)
        contract.step_ended()


class Changed(D2TV):
    """Changes what forward() returns."""

    def change(self, outputs: Outputs) -> dict[str, Any]:
        return {}

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        outputs = super().forward(batch, step, counts)
        return dataclasses.replace(outputs, **self.change(outputs))


class LacksATerm(Changed):
    def change(self, outputs: Outputs) -> dict[str, Any]:
        return {"terms": {name: term for name, term in outputs.terms.items() if name != "tco"}}


class CountsOtherwise(Changed):
    def change(self, outputs: Outputs) -> dict[str, Any]:
        mms = outputs.terms["mms"]
        return {"terms": {**outputs.terms, "mms": dataclasses.replace(mms, count=mms.count + 1)}}


class SumsByToken(Changed):
    def change(self, outputs: Outputs) -> dict[str, Any]:
        mms = outputs.terms["mms"]
        return {"terms": {**outputs.terms, "mms": dataclasses.replace(mms, sum=mms.sum.expand(2))}}


class WatchesTheLoss(Changed):
    def change(self, outputs: Outputs) -> dict[str, Any]:
        return {"watched": {"mms_again": Watched(sum=outputs.terms["mms"].sum, count=1)}}


class WatchesNowAndThen(Changed):
    calls = 0

    def change(self, outputs: Outputs) -> dict[str, Any]:
        type(self).calls += 1
        return {"watched": {f"figure{type(self).calls % 3 % 2}": Watched(sum=torch.tensor(1.0), count=1)}}


class KeepsForNothing(Changed):
    def change(self, outputs: Outputs) -> dict[str, Any]:
        return {"keep": {"rows": outputs.row_nll["mms"]}}


class NamesAnotherBranch(Changed):
    def change(self, outputs: Outputs) -> dict[str, Any]:
        return {"row_nll": {"teacher": outputs.row_nll["mms"], "mxls": outputs.row_nll["mxls"]}}


class DrawsFromElsewhere(Changed):
    generator = torch.Generator().manual_seed(0)

    def change(self, outputs: Outputs) -> dict[str, Any]:
        mms = outputs.terms["mms"]
        noise = 1 + torch.rand((), generator=self.generator)
        return {"terms": {**outputs.terms, "mms": dataclasses.replace(mms, sum=mms.sum * noise)}}


class ChangesItsState(Changed):
    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.register_buffer("queue", torch.zeros(3))

    def change(self, outputs: Outputs) -> dict[str, Any]:
        self.queue += 1
        return {}


class LeavesAParameterOut(D2TV):
    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.spare = nn.Linear(2, 2)


class GroupsSome(D2TV):
    def parameter_groups(self) -> list[Group]:
        return [Group(parameters=list(self.network.parameters()))]


class CountsByBatch(D2TV):
    calls = 0

    def counts(self, batch: Batch) -> dict[str, float]:
        counts = super().counts(batch)
        type(self).calls += 1
        return counts if self.calls % 2 else {"tco": counts.pop("tco"), **counts}


@pytest.mark.parametrize(
    ("kind", "clause"),
    [
        (LacksATerm, r"terms have the names and order of counts\(\): .*, not .*, tco"),
        (CountsOtherwise, r"a term's count is that of counts\(\): mms has "),
        (SumsByToken, r"a term's sum is one number: mms is \(2,\)"),
        (WatchesTheLoss, "a watched figure is detached, .*: mms_again"),
        (WatchesNowAndThen, "the names of watched figures are the same in every micro-batch: figure"),
        (KeepsForNothing, r"what is kept is for after_step\(\), .*: rows"),
        (NamesAnotherBranch, "row_nll has the branches' names: teacher, mxls"),
        (DrawsFromElsewhere, "what is random follows from the slot, .*: mms is "),
        (ChangesItsState, r"forward\(\) changes no state, .*: queue was changed"),
        (LeavesAParameterOut, "every trained parameter takes part in every forward: spare.weight does not"),
        (GroupsSome, r"parameter_groups\(\) names each trained parameter once: project.weight, trained, is in 0"),
        (CountsByBatch, r"the keys of counts\(\) are the same in every micro-batch: mms, .*, then tco, mms"),
    ],
)
def test_a_break_is_refused_by_its_clause(kind: type[D2TV], clause: str) -> None:
    with pytest.raises(InputError, match=rf"objective toy breaks its contract: {clause}"):
        check(kind, steps=2)


def test_what_keeps_it_passes() -> None:
    check(D2TV, steps=2)


def test_a_field_that_is_asked_for_and_not_there_is_named() -> None:
    objective = D2TV(D2TVConfig(), Network(tiny_config(), 50, PAD_ID, EOS_ID))
    contract = Contract(objective, "toy", repeats=True, needs={"source_summary"})
    contract.check_fields([random_batch(source_summaries=True)])
    with pytest.raises(InputError, match=r"objective toy asks for batch.source_summary_ids_BS, which is not there: "):
        contract.check_fields([random_batch(source_summaries=True), random_batch()])
    Contract(objective, "toy", repeats=True).check_fields(BATCHES)
