"""Events of a training, and who receives them.

The loop emits events on every rank and never asks whether anyone listens. Rank 0 has the observers that report
(metrics.jsonl, Prometheus, trackers, console); every rank has the watchdog's, and an exporter of its node's metrics
where it is the first of a node. A new sink is an `Observer` that `trainer.assemble.assemble` is given.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from shards.schema import Unreadable
from trainer.interval import Interval

#: What a rank is doing; each has its limit in the recipe's section `watchdog`.
Phase = Literal["start", "step", "checkpoint", "evaluation"]
Outcome = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """All ranks have joined and the state of `step` is loaded.

    skipped: steps skipped so far.  restarts: earlier starts of this run, checkpoint_bytes: size of the checkpoint that
    it resumes from; both are 0 on other ranks than 0.
    """

    step: int
    steps: int
    skipped: int
    world_size: int
    restarts: int
    checkpoint_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseBegan:
    """Progress was made, and `phase` begins. detail: like "step 17"."""

    phase: Phase
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureChanged:
    """Another mixture begins with `step`."""

    step: int
    mixture: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamplesUnreadable:
    """The placeholders of `step`: every one, in slot order, on rank 0; none elsewhere."""

    step: int
    found: Sequence[Unreadable]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTaken:
    """The optimizer took `step`. skipped: steps skipped since the run began."""

    step: int
    skipped: int
    seconds: float
    data_wait_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSkipped:
    """An attempt had non-finite gradients and changed nothing. step: the last one that was taken.

    slots: first and last.  loss_scale: of fp16, from now on.  diverged: too many in a row for chance, so that the loss
    last logged no longer holds.
    """

    step: int
    skipped: int
    seconds: float
    data_wait_seconds: float
    slots: tuple[int, int]
    loss_scale: float | None
    diverged: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """A logging interval ended at `step`. unreadable, groups: the run's so far.

    idle: terms of weight 0 in the last micro-batch.
    """

    step: int
    interval: Interval
    skipped: int
    learning_rate: float
    gradient_norm: float
    loss_scale: float | None
    scalars: Mapping[str, float]
    idle: frozenset[str]
    unreadable: int
    groups: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpiked:
    """The loss of the interval that ended at `step` stands out.

    usual: the median of the losses before.  directions: the worst, by the nats that each put on top of what is usual
    for it: (direction, its NLL a token, its usual one).
    """

    step: int
    loss: float
    usual: float
    directions: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Validated:
    """Held-out NLL (nats a target token) by kind, and by kind and target language (L,), NaN for those without.

    measured: by the objective, by name.  unreadable: examples that are in no mean.
    """

    step: int
    nll: Mapping[str, float]
    by_target: Mapping[str, Sequence[float]]
    measured: Mapping[str, float]
    unreadable: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SaveBegan:
    """The state of `step` is about to be copied out."""

    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """Outcome of a save, identical on all ranks.

    path: the checkpoint.  stall_seconds: that training waited for it.  seconds: from then to its end.  bytes: its size,
    0 where it does not exist.  problem: why it does not.  untidy: lines about what could not be dropped or replaced
    among the checkpoints, each once in a process.
    """

    path: Path
    step: int
    stall_seconds: float
    seconds: float
    bytes: int
    problem: str | None
    untidy: tuple[str, ...] = ()

    @property
    def committed(self) -> bool:
        return self.bytes > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack:
    """Training returned from `from_step` to the checkpoint of `step`: later steps will come again."""

    step: int
    from_step: int
    skipped: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingEnded:
    """No more steps: all are taken, a signal came, or an error."""

    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationEnded:
    """The test split is evaluated. report: evaluation/test.json."""

    report: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A line for a person."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A record of metrics.jsonl was made of other events."""

    record: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """Nothing follows."""

    step: int
    outcome: Outcome


Event = (
    Started
    | PhaseBegan
    | MixtureChanged
    | ExamplesUnreadable
    | StepTaken
    | StepSkipped
    | Logged
    | LossSpiked
    | Validated
    | SaveBegan
    | Saved
    | RolledBack
    | TrainingEnded
    | EvaluationEnded
    | Notice
    | Recorded
    | Ended
)


class Observer(Protocol):
    """Reacts to events; it never changes the training."""

    def notify(self, event: Event, /) -> None:
        """React to `event`; ignore unknown ones."""
        ...


class Observers:
    """Pass events to the observers of one rank, in order."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = list(observers)

    def add(self, *observers: Observer) -> None:
        self._observers += observers

    def emit(self, event: Event) -> None:
        """Notify every observer, in order; one may emit further events meanwhile."""
        for observer in self._observers:
            observer.notify(event)
