"""Read the events of a run from their records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shards.printable import one_line
from trainer.runs.words import figure, number, whole


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a step. time: Unix; None where its record has none. kind: as recorded."""

    kind: str
    step: int
    time: float | None


@dataclass(frozen=True, slots=True)
class Saved(Event):
    """A checkpoint. problem: why it could not be written, None where it is. bytes, seconds, stall: None if unknown."""

    problem: str | None
    bytes: float | None
    seconds: float | None
    stall: float | None


@dataclass(frozen=True, slots=True)
class SpikeDirection:
    """NLL of a direction in a spike, and usually."""

    name: str
    nll: float | None
    usual: float | None


@dataclass(frozen=True, slots=True)
class Spike(Event):
    """A jump of the loss. directions: those that jumped most."""

    loss: float | None
    usual: float | None
    directions: tuple[SpikeDirection, ...]

    @property
    def words(self) -> str:
        """The jump in words."""
        return f"the loss jumped from {figure(self.usual)} to {figure(self.loss)}"


@dataclass(frozen=True, slots=True)
class RolledBack(Event):
    """A return to the checkpoint of `step`."""

    from_step: int | None


@dataclass(frozen=True, slots=True)
class MixtureChanged(Event):
    """The first step of another mixture."""

    mixture: str


def read_event(record: Mapping[str, Any], time: float | None) -> Event:
    """Return the event of a record, of whatever kind and release."""
    kind, step = str(record["kind"]), record["step"]

    def value(key: str) -> float | None:
        return number(record.get(key))

    match kind:
        case "checkpoint":
            problem = None if record.get("committed") else one_line(str(record.get("problem")))
            return Saved(kind, step, time, problem, value("bytes"), value("seconds"), value("stall_seconds"))
        case "spike":
            named = record.get("directions")
            directions = tuple(
                SpikeDirection(str(one.get("direction")), number(one.get("nll")), number(one.get("usual")))
                for one in (named if isinstance(named, list) else ())
                if isinstance(one, dict)
            )
            return Spike(kind, step, time, value("loss"), value("usual"), directions)
        case "rollback":
            return RolledBack(kind, step, time, whole(record.get("from_step")))
        case "mixture":
            return MixtureChanged(kind, step, time, one_line(str(record.get("mixture"))))
    return Event(kind, step, time)
