"""Rows that an objective keeps arrive once a taken step: the real ones of all ranks and micro-steps, in slot order."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.objectives.base import Watched
from shards.stream.partition import Partition
from trainer.own_state import OwnState


class Recorder:
    """Stands for an objective, and records what it is told."""

    has_state = True

    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[str, float], dict[str, Tensor]]] = []

    def after_step(self, step: int, means: dict[str, float], kept: dict[str, Tensor]) -> None:
        self.calls.append((step, means, kept))


def add(state: OwnState, slots: list[int], *, unreadable: tuple[int, ...] = (), count: float = 1.0) -> None:
    """Add a micro-batch whose rows keep their slots, and a figure that is the sum of them."""
    slot_B = torch.tensor(slots)
    weight_B = torch.tensor([float(slot not in unreadable) for slot in slots])
    rows_B2 = torch.stack((slot_B, -slot_B), dim=1).float().requires_grad_()
    outputs: Any = SimpleNamespace(
        keep={"rows": rows_B2}, watched={"slot": Watched(sum=slot_B.sum().float(), count=count)}
    )
    batch: Any = SimpleNamespace(slot_B=slot_B, weight_B=weight_B)
    state.add(outputs, batch)


def own_state() -> tuple[OwnState, Recorder]:
    recorder = Recorder()
    objective: Any = recorder
    return OwnState(objective, torch.device("cpu")), recorder


def test_real_rows_come_in_slot_order_without_a_graph() -> None:
    state, recorder = own_state()
    add(state, [4, 5, 6, 7], unreadable=(5,))
    add(state, [0, 1, 2, 3], unreadable=(0, 3), count=3)
    state.step_ended(taken=True, step=7)
    [(step, means, kept)] = recorder.calls
    assert step == 7
    assert kept["rows"].tolist() == [[slot, -slot] for slot in (1, 2, 4, 6, 7)]
    assert not kept["rows"].requires_grad
    assert means == {"slot": 28 / 4}


def test_a_skipped_step_is_forgotten() -> None:
    state, recorder = own_state()
    add(state, [0, 1])
    state.step_ended(taken=False, step=0)
    assert recorder.calls == []
    add(state, [2, 3])
    state.step_ended(taken=True, step=1)
    assert recorder.calls[0][2]["rows"][:, 0].tolist() == [2, 3]


def test_a_figure_that_nothing_counted_has_no_mean() -> None:
    state, recorder = own_state()
    add(state, [0, 1], unreadable=(0, 1), count=0.0)
    state.step_ended(taken=True, step=1)
    [(_, means, kept)] = recorder.calls
    assert means == {}
    assert kept["rows"].shape == (0, 2)


@pytest.mark.parametrize(("world_size", "groups"), [(1, 1), (2, 1), (2, 2), (4, 1), (1, 4)])
def test_every_division_of_a_step_gives_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, world_size: int, groups: int
) -> None:
    """Ranks one after the other: each records what it would gather, and the last one receives all of it."""
    gathered: dict[int, list[Tensor]] = {}

    def gather(rows: Tensor) -> Tensor:
        parts = gathered.setdefault(call := next(calls), [])
        parts.append(rows)
        assert call < 3  # slots, rows, means
        return torch.cat(parts)

    monkeypatch.setattr("trainer.own_state.gather_rows", gather)
    for rank in range(world_size):
        calls = iter(range(10))
        partition = Partition(groups_per_step=4, groups_per_micro_batch=groups, rank=rank, world_size=world_size)
        state, recorder = own_state()
        for micro_step in range(partition.micro_steps):
            first = 4 * partition.first_group(micro_step)
            add(state, list(range(first, first + 4 * groups)), unreadable=(6,), count=float(groups))
        state.step_ended(taken=True, step=1)
    [(_, means, kept)] = recorder.calls
    assert kept["rows"][:, 0].tolist() == [slot for slot in range(16) if slot != 6]
    assert means == {"slot": sum(range(16)) / 4}


def test_an_objective_without_state_is_not_called() -> None:
    state, recorder = own_state()
    recorder.has_state = False
    add(state, [0, 1])
    state.step_ended(taken=True, step=1)
    assert recorder.calls == []
