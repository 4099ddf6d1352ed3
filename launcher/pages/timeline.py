"""A run's course on an axis of real time: when it trained, what it saved, what befell it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from launcher.pages.page import escape, table
from shards.printable import one_line
from trainer.runs.history import Event, History, Life
from trainer.runs.words import duration, figure, moment, number, size

WIDTH = 1080
_LEFT, _RIGHT, _TOP, _LANE, _AXIS = 96, 40, 8, 30, 26
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
#: Seconds between two lines of the axis.
_TICKS = (
    *(1, 2, 5, 10, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 4 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY),
)
_MOST_TICKS = 11
#: More starts than this are behind a fold.
_STARTS = 12
#: Rows of the list of events at most; the newest are listed.
_LISTED = 500

STYLE = """
.timeline { width: 100%; min-width: 40rem; height: auto; } .timeline .grid { stroke: var(--line); stroke-width: 1; }
.timeline .life { fill: var(--c0); fill-opacity: .75; } .timeline .finished { fill: var(--c2); }
.timeline .stopped { fill: var(--c5); } .timeline .failed, .timeline .died { fill: var(--bad); }
.timeline .saved { fill: var(--c2); } .timeline .bad { stroke: var(--bad); stroke-width: 2; fill: none; }
.told th:last-child, .told td:last-child { text-align: left; } .told td:last-child { white-space: normal; }
.timeline .spike { fill: var(--bad); } .timeline .back { fill: var(--c3); } .timeline .mixture { fill: var(--c7); }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mark:
    """A mark at a time: a shape around 0 0, and its tooltip."""

    time: float
    shape: str
    tip: str


def ending(life: Life, *, last: bool) -> str:
    """Say how a start ended, in the words of its `end` record, or that it has none."""
    if life.outcome is not None:
        return one_line(life.outcome)
    return "not ended" if last else "died"


def timeline(history: History) -> str:
    """The picture and the table of starts; empty where nothing is recorded."""
    if not history.lives:
        return ""
    return _picture(history) + _starts(history.lives) + _list(history)


def _lanes(history: History) -> dict[str, list[_Mark]]:
    lanes: dict[str, list[_Mark]] = {"checkpoints": [], "spikes": [], "rollbacks": [], "mixture": []}
    for event in history.events:
        shape, lane = {
            "checkpoint": ('<circle class="saved" r="4"></circle>', "checkpoints"),
            "spike": ('<path class="spike" d="M-5 -4h10l-5 9z"></path>', "spikes"),
            "rollback": ('<path class="back" d="M-6 0l6 -5v3h6v4h-6v3z"></path>', "rollbacks"),
            "mixture": ('<path class="mixture" d="M0 -5l5 5l-5 5l-5 -5z"></path>', "mixture"),
        }.get(event.kind, ("", ""))
        if event.kind == "checkpoint" and not event.record.get("committed"):
            shape = '<path class="bad" d="M-4 -4l8 8m0 -8l-8 8"></path>'
        time = history.time_of(event)
        if lane and time is not None and math.isfinite(time):
            lanes[lane].append(_Mark(time=time, shape=shape, tip=f"{moment(time)}, {told(event)}"))
    lanes["checkpoints"].sort(key=lambda mark: "bad" in mark.shape)  # on top of the others
    return {name: marks for name, marks in lanes.items() if marks}


def told(event: Event) -> str:
    """An event in a sentence."""
    record = event.record
    if event.kind == "checkpoint":
        if not record.get("committed"):
            return f"step {event.step:,}: no checkpoint could be written: {one_line(str(record.get('problem')))}"
        seconds, stall = number(record.get("seconds")), number(record.get("stall_seconds"))
        words = [size(number(record.get("bytes")) or 0)]
        words += [f"written in {duration(seconds)}"] if seconds is not None else []
        words += [f"training waited {duration(stall)}"] if stall is not None else []
        return f"step {event.step:,}: checkpoint, {', '.join(words)}"
    if event.kind == "spike":
        text = f"step {event.step:,}: {spike_in_words(event)}"
        named = record.get("directions")
        worst = [
            f"{one_line(str(one.get('direction'))).replace('>', ' → ')} {figure(number(one.get('nll')))} "
            f"(usually {figure(number(one.get('usual')))})"
            for one in (named if isinstance(named, list) else ())
            if isinstance(one, dict)
        ]
        return text + (f"; NLL of the worst directions: {', '.join(worst)}" if worst else "")
    if event.kind == "rollback":
        came_from = number(record.get("from_step"))
        return f"back to step {event.step:,}" + (f" from step {came_from:,.0f}" if came_from is not None else "")
    if event.kind == "mixture":
        return f"step {event.step:,}: another mixture begins: {one_line(str(record.get('mixture')))}"
    return f"step {event.step:,}: {one_line(event.kind)}"


def spike_in_words(event: Event) -> str:
    """The jump of a spike."""
    loss, usual = (number(event.record.get(key)) for key in ("loss", "usual"))
    return f"the loss jumped from {figure(usual)} to {figure(loss)}"


def _picture(history: History) -> str:
    lives = [life for life in history.lives if life.began is not None and math.isfinite(life.began)]
    lanes = _lanes(history)
    times = [life.began for life in lives if life.began is not None]
    times += [life.last_time for life in history.lives if life.last_time is not None]
    times += [mark.time for marks in lanes.values() for mark in marks]
    times = [time for time in times if math.isfinite(time)]
    if not times:
        return "<p>No times are recorded.</p>"
    first, last = min(times), max(times)
    span = max(last - first, 1.0)

    def x(time: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (time - first) / span

    height = _TOP + _LANE * (1 + len(lanes)) + _AXIS
    bottom = height - _AXIS
    parts = [
        f'<div class="wide"><svg class="timeline" role="img" aria-label="the run in time" '
        f'viewBox="0 0 {WIDTH} {height}">'
    ]
    for time, text in time_ticks(first, last):
        parts.append(
            f'<line class="grid" x1="{x(time):.1f}" x2="{x(time):.1f}" y1="{_TOP}" y2="{bottom}"></line>'
            f'<text class="number" x="{x(time):.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
        )
    middle = _TOP + _LANE / 2
    parts.append(f'<text x="0" y="{middle + 4:.0f}">training</text>')
    for place, life in enumerate(history.lives):
        if life.began is None or not math.isfinite(life.began):
            continue
        until = life.last_time if life.last_time is not None and math.isfinite(life.last_time) else life.began
        how = ending(life, last=place == len(history.lives) - 1)
        tip = f"step {life.step:,} to {life.last_step:,}, {moment(life.began)} to {moment(until)}: {how}"
        wide = max(x(until) - x(life.began), 2.0)
        top = middle - 8
        parts.append(f"<g><title>{escape(tip)}</title>")
        parts.append(f'<rect class="life" x="{x(life.began):.1f}" y="{top:.0f}" width="{wide:.1f}" height="16"></rect>')
        if how != "not ended":
            known = how if how in ("finished", "stopped", "failed", "died") else "failed"
            left = x(life.began) + wide - 3
            parts.append(f'<rect class="{known}" x="{left:.1f}" y="{top - 3:.0f}" width="4" height="22"></rect>')
        parts.append("</g>")
    for lane, (name, marks) in enumerate(lanes.items(), 1):
        middle = _TOP + _LANE * (lane + 0.5)
        parts.append(f'<text x="0" y="{middle + 4:.0f}">{name}</text>')
        for mark in marks:
            parts.append(
                f'<g transform="translate({x(mark.time):.1f} {middle:.0f})"><title>{escape(mark.tip)}</title>'
                f"{mark.shape}</g>"
            )
    parts.append("</svg></div>")
    return "\n".join(parts)


def time_ticks(first: float, last: float) -> list[tuple[float, str]]:
    """Round moments of UTC with their labels: the day where it is another one, the time of day elsewhere."""
    span = max(last - first, 1.0)
    unit = next((unit for unit in _TICKS if span / unit <= _MOST_TICKS), _DAY * math.ceil(span / _MOST_TICKS / _DAY))
    found: list[tuple[float, str]] = []
    day = None
    for place in range(math.ceil(first / unit), math.floor(last / unit) + 1):
        try:
            when = datetime.fromtimestamp(place * unit, UTC)
        except (ValueError, OverflowError, OSError):
            return found
        text = when.strftime("%H:%M:%S" if unit < _MINUTE else "%H:%M")
        if when.date() != day:
            text = when.strftime("%b %d") if unit >= _DAY or text.startswith("00:00") else f"{when:%b %d} {text}"
        day = when.date()
        found.append((place * unit, text))
    return found


def _starts(lives: Sequence[Life]) -> str:
    rows = []
    for place, life in enumerate(lives):
        until = life.last_time
        took = duration(until - life.began) if until is not None and life.began is not None else "–"
        rows.append(
            [
                moment(life.began),
                f"{life.step:,}",
                f"{life.last_step:,}",
                took,
                f"{life.world_size:,}" if life.world_size else "–",
                ending(life, last=place == len(lives) - 1),
            ]
        )
    html = table(["start (UTC)", "from step", "to step", "recorded", "ranks", "end"], rows)
    return html if len(rows) <= _STARTS else f"<details><summary>{len(rows):,} starts</summary>{html}</details>"


def _list(history: History) -> str:
    events = history.events[-_LISTED:]
    if not events:
        return ""
    rows = [[moment(history.time_of(event)), told(event)] for event in events]
    left_out = len(history.events) - len(events)
    what = f"The last {len(events):,} of {len(history.events):,} events" if left_out else f"{len(events):,} events"
    return f'<details><summary>{what}</summary><div class="told">{table(["time (UTC)", "event"], rows)}</div></details>'
