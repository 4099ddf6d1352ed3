"""Keep the records of a run in little memory: curves, starts and ends, events, and the newest of the rest."""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from trainer.runs.directions import KEPT, Directions, sum_directions
from trainer.runs.words import number, whole
from trainer.telemetry.metrics import parse_record

#: Train records that "recent" means: means over languages, times of a step.
RECENT = 32
#: How a directions record begins. It may be of 200 kB: only the newest are ever parsed.
_DIRECTIONS = b'{"kind": "directions"'
#: Numbers of a train record that have a curve of their own name, and those that have none. What is not here was told
#: by the objective, like alpha of Eq. 8.
_CURVES = frozenset(
    {
        *("learning_rate", "gradient_norm", "loss_scale", "examples_per_second", "target_tokens_per_second"),
        *("step_seconds", "data_wait_share", "mfu", "real_token_share", "slowest_rank_lag_seconds"),
    }
)
_OTHERS = frozenset({"step", "steps", "skipped_steps", "read_retries", "unreadable", "time", "slowest_rank"})


@dataclass(frozen=True, slots=True)
class Curve:
    """A value at every step that it was recorded at. It may not be finite."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Life:
    """From a start to its end, as far as it is recorded.

    outcome: what its `end` record says; None where there is none: it goes on, or died.
    """

    step: int
    began: float | None
    world_size: int | None = None
    last_step: int = 0
    last_time: float | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A checkpoint, spike, rollback or change of the mixture. time: None where its record has none."""

    kind: str
    step: int
    time: float | None
    record: Mapping[str, Any]


class History:
    """Fed with lines, in their order."""

    def __init__(self) -> None:
        self.records = 0
        self.passed_over = 0  # lines that are no records
        self.step = 0  # of the last train record
        self.curves: dict[str, dict[str, Curve]] = {}  # loss, nll, held-out, scalars: by name; rates: the others
        self.times = Curve()  # Unix time of every train record
        self.lives: list[Life] = []
        self.restarts = 0
        self.events: list[Event] = []
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)  # train records
        self.first_validation: Mapping[str, Any] | None = None  # by target language, where it says that
        self.last_validation: Mapping[str, Any] | None = None
        self.examples = 0.0  # trained on; both kinds
        self.target_tokens = 0.0
        self.training_seconds = 0.0
        self.last_time: float | None = None
        self._directions: deque[bytes] = deque(maxlen=KEPT + 1)
        self._summed: tuple[bytes, Directions] | None = None

    @property
    def last_train(self) -> Mapping[str, Any]:
        """The newest train record, or an empty one."""
        return self.recent[-1] if self.recent else {}

    @property
    def validated_step(self) -> int:
        """The step of the last validation, -1 before the first."""
        return int(self.last_validation["step"]) if self.last_validation else -1

    def add(self, line: bytes) -> None:
        """Note one line; one that is no record is counted and passed over."""
        if line.startswith(_DIRECTIONS):
            self._directions.append(line)
            return
        record = parse_record(line)
        if record is None:
            self.passed_over += bool(line.strip())
            return
        kind = record["kind"]
        if kind == "directions":
            self._directions.append(line)
            return
        self.records += 1
        time = number(record.get("time"))
        if kind == "start":
            self._start(record, time)
        elif not self.lives:
            self.lives.append(Life(step=record["step"], began=time))
        life = self.lives[-1]
        life.last_step = record["step"]
        if time is not None:
            self.last_time = life.last_time = time
        if kind == "train":
            self._train(record, time)
        elif kind == "validation":
            self._validation(record)
        elif kind == "end":
            life.outcome = str(record.get("outcome"))
        elif kind != "start":
            self.events.append(Event(kind, record["step"], time, record))

    def of_kind(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def by_target(self, kind: str) -> dict[str, float]:
        """Recent training NLL a target token by target language, of one kind: the mean of the records that have it."""
        found: dict[str, list[float]] = {}
        for record in self.recent:
            for language, nll in _numbers(_mapping(record.get("nll_by_target")).get(kind)).items():
                found.setdefault(language, []).append(nll)
        return {language: fmean(values) for language, values in found.items()}

    def held_out_by_target(self, *, first: bool = False) -> dict[str, dict[str, float]]:
        """kind -> language -> held-out NLL a target token, of the newest validation that says it or of the first."""
        record = self.first_validation if first else self.last_validation
        of_kinds = _mapping((record or {}).get("nll_by_target"))
        return {kind: numbers for kind, values in of_kinds.items() if (numbers := _numbers(values))}

    def directions(self) -> Directions | None:
        """The newest directions records summed, or None where there is none."""
        if not self._directions:
            return None
        if self._summed is None or self._summed[0] is not self._directions[-1]:
            self._summed = self._directions[-1], sum_directions(list(self._directions))
        return self._summed[1] if self._summed[1].found else None

    def breaks(self) -> list[int]:
        """Steps at which curves are not joined: where the run went on or went back."""
        steps = {life.step for life in self.lives[1:]} | {event.step for event in self.of_kind("rollback")}
        return sorted(steps)

    def time_of(self, event: Event) -> float | None:
        """When an event was, by the train record of its step or the next where its own does not say so."""
        if event.time is not None or not self.times.steps:
            return event.time
        return self.times.values[min(bisect_left(self.times.steps, event.step), len(self.times.steps) - 1)]

    def _start(self, record: Mapping[str, Any], time: float | None) -> None:
        world_size = whole(record.get("world_size"))
        self.lives.append(Life(step=record["step"], began=time, world_size=world_size or None))
        told = whole(record.get("restarts"))
        self.restarts = len(self.lives) - 1 if told is None else told

    def _train(self, record: Mapping[str, Any], time: float | None) -> None:
        step = record["step"]
        self.step = step
        self.recent.append(record)
        for group, name in (("loss", "loss"), ("nll", "nll")):
            for key, value in _numbers(record.get(name)).items():
                self._point(group, key, step, value)
        for key, value in record.items():
            if key not in _OTHERS and (of_key := number(value)) is not None:
                self._point("rates" if key in _CURVES else "scalars", key, step, of_key)
        if time is not None:
            self.times.steps.append(step)
            self.times.values.append(time)
        self.examples += sum(_numbers(record.get("examples")).values())
        self.target_tokens += sum(_numbers(record.get("target_tokens")).values())
        self.training_seconds += (number(record.get("steps")) or 0) * (number(record.get("step_seconds")) or 0)

    def _validation(self, record: Mapping[str, Any]) -> None:
        self.last_validation = record
        if self.first_validation is None and "nll_by_target" in record:
            self.first_validation = record
        for key, value in _numbers(record.get("nll")).items():
            self._point("held-out", key, record["step"], value)
        for key, value in record.items():  # what the objective measured
            if key not in _OTHERS and key != "seconds" and (of_key := number(value)) is not None:
                self._point("scalars", key, record["step"], of_key)

    def _point(self, group: str, name: str, step: int, value: float) -> None:
        curve = self.curves.setdefault(group, {}).setdefault(name, Curve())
        curve.steps.append(step)
        curve.values.append(value)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    """The numbers of a mapping, by name."""
    return {key: found for key, one in _mapping(value).items() if (found := number(one)) is not None}
