"""Fold the records of a run into curves, starts and ends, events, and the newest of the rest."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeVar

from shards.printable import one_line
from trainer.runs.directions import KEPT, Directions, sum_directions
from trainer.runs.events import Event, RolledBack, read_event
from trainer.runs.words import number, whole
from trainer.telemetry.metrics import parse_record

#: Train records that count as recent.
RECENT = 32
#: The beginning of a directions record. It may be of 200 kB: only the newest are parsed.
_DIRECTIONS = b'{"kind": "directions"'
#: Numbers of a train record that have a curve of their own, and those that have none. All others are the objective's,
#: like alpha of Eq. 8.
_CURVES = frozenset(
    {
        *("learning_rate", "gradient_norm", "loss_scale", "examples_per_second", "target_tokens_per_second"),
        *("step_seconds", "step_flops", "data_wait_share", "mfu", "real_token_share", "slowest_rank_lag_seconds"),
    }
)
_OTHERS = frozenset({"step", "steps", "skipped_steps", "read_retries", "unreadable", "time", "slowest_rank"})


@dataclass(frozen=True, slots=True)
class Curve:
    """A value, finite or not, at every step that it was recorded at."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Start:
    """A start of the run and what followed, as far as it is recorded.

    outcome: of its `end` record; None where there is none: it goes on, or died.
    """

    step: int
    began: float | None
    world_size: int | None = None
    last_step: int = 0
    last_time: float | None = None
    outcome: str | None = None


_E = TypeVar("_E", bound=Event)


class History:
    """The records of a run, added in their order."""

    def __init__(self) -> None:
        self.records = 0
        self.unreadable_lines = 0
        self.step = 0  # of the last train record
        self.curves: dict[str, dict[str, Curve]] = {}  # loss, nll, held-out, scalars, rates: by name
        self.times = Curve()  # Unix time of every train record
        self.starts: list[Start] = []
        self.restarts = 0
        self.events: list[Event] = []
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)  # train records
        self.first_validation: Mapping[str, Any] | None = None  # of those that are by target language
        self.last_validation: Mapping[str, Any] | None = None
        self.examples = 0.0  # trained on
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
        """Add a line; one that is no record is counted."""
        record = None if line.startswith(_DIRECTIONS) else parse_record(line)
        if line.startswith(_DIRECTIONS) or (record is not None and record["kind"] == "directions"):
            self._directions.append(line)
            return
        if record is None:
            self.unreadable_lines += bool(line.strip())
            return
        kind = record["kind"]
        self.records += 1
        time = number(record.get("time"))
        if kind == "start":
            self._start(record, time)
        elif not self.starts:
            self.starts.append(Start(step=record["step"], began=time))
        start = self.starts[-1]
        start.last_step = record["step"]
        if time is not None:
            self.last_time = start.last_time = time
        if kind == "train":
            self._train(record, time)
        elif kind == "validation":
            self._validation(record)
        elif kind == "end":
            start.outcome = str(record.get("outcome"))
        elif kind != "start":
            self.events.append(read_event(record, time))

    def of_type(self, kind: type[_E]) -> list[_E]:
        """Return the events of a type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def world_size(self) -> int | None:
        """Ranks of the newest start; None where it is not recorded."""
        return self.starts[-1].world_size if self.starts else None

    def endings(self) -> Iterator[tuple[Start, str]]:
        """Yield every start with the outcome of its `end` record; without one, "not ended" (the last) or "died"."""
        for start in self.starts:
            without = "not ended" if start is self.starts[-1] else "died"
            yield start, without if start.outcome is None else one_line(start.outcome)

    def problem_counts(self) -> dict[str, int]:
        """Return how many steps were skipped and examples replaced by placeholders, as far as it is recorded."""
        found = {"skipped steps": "skipped_steps", "placeholders": "unreadable"}
        counts = {name: whole(self.last_train.get(key)) for name, key in found.items()}
        return {name: count for name, count in counts.items() if count is not None}

    def training_by_target(self) -> dict[str, dict[str, float]]:
        """Return kind -> target language -> recent training NLL a token: the mean of the records that have it."""
        found: dict[str, dict[str, list[float]]] = {}
        for record in self.recent:
            for kind, values in _mapping(record.get("nll_by_target")).items():
                for language, nll in _numbers(values).items():
                    found.setdefault(kind, {}).setdefault(language, []).append(nll)
        return {kind: {name: fmean(values) for name, values in of.items()} for kind, of in found.items()}

    def held_out_by_target(self, *, first: bool = False) -> dict[str, dict[str, float]]:
        """Return kind -> target language -> held-out NLL a token of the newest validation, or of the first."""
        record = self.first_validation if first else self.last_validation
        of_kinds = _mapping((record or {}).get("nll_by_target"))
        return {kind: numbers for kind, values in of_kinds.items() if (numbers := _numbers(values))}

    def directions(self) -> Directions | None:
        """Return the sum of the newest directions records, None where there is none."""
        if not self._directions:
            return None
        if self._summed is None or self._summed[0] is not self._directions[-1]:
            self._summed = self._directions[-1], sum_directions(list(self._directions))
        return self._summed[1] if self._summed[1].found else None

    def breaks(self) -> list[int]:
        """Return the steps at which the run went on or went back: curves are not joined there."""
        steps = {start.step for start in self.starts[1:]} | {event.step for event in self.of_type(RolledBack)}
        return sorted(steps)

    def time_of(self, event: Event) -> float | None:
        """Return an event's Unix time; where it has none, that of the train record of its step or the next."""
        if event.time is not None or not self.times.steps:
            return event.time
        return self.times.values[min(bisect_left(self.times.steps, event.step), len(self.times.steps) - 1)]

    def _start(self, record: Mapping[str, Any], time: float | None) -> None:
        world_size = whole(record.get("world_size"))
        self.starts.append(Start(step=record["step"], began=time, world_size=world_size or None))
        restarts = whole(record.get("restarts"))
        self.restarts = len(self.starts) - 1 if restarts is None else restarts

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
        for key, value in record.items():
            if key not in _OTHERS and key != "seconds" and (of_key := number(value)) is not None:
                self._point("scalars", key, record["step"], of_key)

    def _point(self, group: str, name: str, step: int, value: float) -> None:
        curve = self.curves.setdefault(group, {}).setdefault(name, Curve())
        curve.steps.append(step)
        curve.values.append(value)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    return {key: found for key, one in _mapping(value).items() if (found := number(one)) is not None}
