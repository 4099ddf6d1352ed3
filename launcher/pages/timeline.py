"""Draw a run on an axis of real time: trainings, checkpoints, spikes, rollbacks, changes of the mixture."""

import math
from collections.abc import Iterator
from typing import Any

from launcher.pages.axes import time_ticks
from shards.printable import one_line
from trainer.runs.events import Event, MixtureChanged, RolledBack, Saved, Spike
from trainer.runs.history import History
from trainer.runs.words import count, duration, figure, moment, size

_WIDTH, _LEFT, _RIGHT = 1080, 96, 40
#: Rows of the list of events at most; the newest are listed.
_LISTED = 500
_LANES = ("checkpoints", "spikes", "rollbacks", "mixture")


def timeline(history: History) -> dict[str, Any] | None:
    """Place the starts and events of a run for run.html.jinja; None where no times are recorded."""
    events = list(_timed(history))
    times = [time for start in history.starts for time in (start.began, start.last_time)] + [time for time, _ in events]
    finite = [time for time in times if time is not None and math.isfinite(time)]
    if not finite:
        return None
    first, last = min(finite), max(finite)

    def x(time: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (time - first) / max(last - first, 1.0)

    bars = []
    for start, how in history.endings():
        if start.began is None or not math.isfinite(start.began):
            continue
        until = start.last_time if start.last_time is not None and math.isfinite(start.last_time) else start.began
        steps = f"step {start.step:,} to {start.last_step:,}"
        bars.append(
            {
                "x": x(start.began),
                "width": max(x(until) - x(start.began), 2.0),
                "tip": f"{steps}, {moment(start.began)} to {moment(until)}: {how}",
                "end": None if how == "not ended" else how if how in ("finished", "stopped", "died") else "failed",
            }
        )
    lanes: dict[str, list[tuple[float, str, str]]] = {lane: [] for lane in _LANES}
    for time, event in events:
        lane, shape = _lane(event)
        lanes[lane].append((x(time), shape, f"{moment(time)}, {describe(event)}"))
    lanes["checkpoints"].sort(key=lambda mark: mark[1] == "bad")  # on top of the others
    return {
        "ticks": [(x(time), text) for time, text in time_ticks(first, last)],
        "bars": bars,
        "lanes": {lane: marks for lane, marks in lanes.items() if marks},
    }


def start_rows(history: History) -> list[list[str]]:
    """Return the cells of a table of starts: began, from step, to step, recorded time, ranks, end."""
    rows = []
    for start, how in history.endings():
        known = start.last_time is not None and start.began is not None
        took = duration((start.last_time or 0.0) - (start.began or 0.0)) if known else "–"
        ranks = count(start.world_size) if start.world_size else "–"
        rows.append([moment(start.began), count(start.step), count(start.last_step), took, ranks, how])
    return rows


def event_rows(history: History) -> list[list[str]]:
    """Return the time and the words of the newest events."""
    return [[moment(history.time_of(event)), describe(event)] for event in history.events[-_LISTED:]]


def describe(event: Event) -> str:
    """Say an event in a sentence."""
    step = f"step {event.step:,}"
    match event:
        case Saved(problem=None):
            words = [size(event.bytes or 0)]
            words += [f"written in {duration(event.seconds)}"] if event.seconds is not None else []
            words += [f"training waited {duration(event.stall)}"] if event.stall is not None else []
            return f"{step}: checkpoint, {', '.join(words)}"
        case Saved():
            return f"{step}: no checkpoint could be written: {event.problem}"
        case Spike():
            worst = [
                f"{one_line(one.name).replace('>', ' → ')} {figure(one.nll)} (usually {figure(one.usual)})"
                for one in event.directions
            ]
            return f"{step}: {event.words}" + (f"; NLL of the worst directions: {', '.join(worst)}" if worst else "")
        case RolledBack():
            return f"back to {step}" + (f" from step {event.from_step:,}" if event.from_step is not None else "")
        case MixtureChanged():
            return f"{step}: another mixture begins: {event.mixture}"
    return f"{step}: {one_line(event.kind)}"


def _timed(history: History) -> Iterator[tuple[float, Event]]:
    """Yield the events that have a lane and a time."""
    for event in history.events:
        time = history.time_of(event)
        if isinstance(event, Saved | Spike | RolledBack | MixtureChanged) and time is not None and math.isfinite(time):
            yield time, event


def _lane(event: Event) -> tuple[str, str]:
    match event:
        case Saved(problem=None):
            return "checkpoints", "saved"
        case Saved():
            return "checkpoints", "bad"
        case Spike():
            return "spikes", "spike"
        case RolledBack():
            return "rollbacks", "back"
    return "mixture", "mixture"
