"""Show a run on one screen of 80 columns: the view of `d2tv watch`."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from statistics import fmean

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launcher.terminal.sparkline import sparkline
from shards.printable import one_line
from trainer.runs.directory import RunDirectory
from trainer.runs.events import Event, RolledBack, Saved, Spike
from trainer.runs.history import RECENT, Curve
from trainer.runs.state import Phase, State, state_of
from trainer.runs.words import duration, figure, number, size

_COLOURS: dict[Phase, str] = {
    "not begun": "dim",
    "beginning": "cyan",
    "training": "green",
    "evaluating": "cyan",
    "silent": "yellow",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
}
_TWO_TABLES = 78  # columns from which on two tables of curves stand beside each other
_LONGEST_NAME, _SHORTEST_LINE, _LONGEST_LINE = 21, 8, 32
_LABELS = 14  # columns of the labels of the facts
_NAMED = 12  # languages and directions that are named, as far as there is room


def view(run: RunDirectory, now: float, width: int) -> RenderableType:
    """Return the view at `now`, a Unix time, in `width` columns."""
    state = state_of(run, now)
    parts: list[RenderableType] = [_title(run, now), _progress(run, state), Text(state.words, _COLOURS[state.phase])]
    if run.history.records or run.history.unreadable_lines:
        parts += [Text(""), _curves(run, width), Text(""), _facts(run, now, width)]
    return Group(*parts)


def _title(run: RunDirectory, now: float) -> Table:
    words, history = [], run.history
    if run.objective:
        words.append(one_line(str(run.objective)))
    if run.corpus:
        words.append(f"corpus {one_line(PurePath(str(run.corpus)).name)}")
    if ranks := history.world_size:
        words.append(f"{ranks} rank{'s' * (ranks > 1)}")
    if history.restarts:
        words.append(f"{history.restarts} restart{'s' * (history.restarts > 1)}")
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    left = Text(run.name, "bold")
    left.append("  " + " · ".join(words), "not bold dim")
    grid.add_row(left, Text(datetime.fromtimestamp(now).strftime("%H:%M:%S"), "dim"))
    return grid


def _progress(run: RunDirectory, state: State) -> RenderableType:
    if run.planned is None:
        return Text(f"step {state.step:,}")
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    done = min(state.step / run.planned, 1.0)
    eta = f"  eta {duration(state.left_seconds)}" if state.left_seconds is not None else ""
    bar = ProgressBar(total=run.planned, completed=min(state.step, run.planned))
    grid.add_row(bar, Text(f"step {state.step:,} of {run.planned:,}  {done:.1%}{eta}"))
    return grid


def _curves(run: RunDirectory, width: int) -> RenderableType:
    """Return loss by term and NLL by kind, beside each other where there is room."""
    curves = run.history.curves
    loss = [(one_line(name), curve, RECENT) for name, curve in curves.get("loss", {}).items()]
    nll = [
        (f"{label} {one_line(kind)}", curve, late)
        for group, label, late in (("nll", "training", RECENT), ("held-out", "held-out", 1))
        for kind, curve in curves.get(group, {}).items()
    ]
    beside = width >= _TWO_TABLES
    room = (width - 2) // 2 if beside else width
    tables = [_table("loss", loss, room), _table("NLL", nll, room)]
    if not beside:
        return Group(*tables)
    both = Table.grid(padding=(0, 2))
    both.add_row(*tables)
    return both


def _table(title: str, curves: Sequence[tuple[str, Curve, int]], width: int) -> Table:
    """Return a line a curve: name, last value, change of the mean of the last `late` values, and all of it."""
    names = max((len(name) for name, _, _ in curves), default=0)
    names = min(max(names, len(title)), _LONGEST_NAME)
    # Long names leave no room for both.
    changes = width - names - 17 >= _SHORTEST_LINE
    line = min(max(width - names - (17 if changes else 9), 1), _LONGEST_LINE)
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=names, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=7, justify="right", no_wrap=True)
    if changes:
        grid.add_column(width=7, justify="right", no_wrap=True, style="dim")
    grid.add_column(width=line, no_wrap=True, style="cyan")
    grid.add_row(Text(title, "dim"), Text("last", "dim"), *(["change"] if changes else []), Text("so far", "dim"))
    for name, curve, late in curves:
        last = curve.values[-1]
        value = Text(figure(last), "" if math.isfinite(last) else "bold red")
        change = [_change(curve.values, late)] if changes else []
        grid.add_row(name, value, *change, sparkline(curve.values, line))
    return grid


def _change(values: Sequence[float], late: int) -> str:
    """Return the mean of the last `late` values over that of as many before."""
    count = min(late, len(values) // 2)
    now, before = (
        [value for value in part if math.isfinite(value)]
        for part in (values[len(values) - count :], values[len(values) - 2 * count : len(values) - count])
    )
    if not now or not before:
        return ""
    change = fmean(now) - fmean(before)
    return f"{change:+.3f}" if abs(change) < 100 else f"{change:+.1e}"


def _facts(run: RunDirectory, now: float, width: int) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True, width=_LABELS - 1)
    grid.add_column(overflow="fold")
    for label, text in (
        ("speed", _speed(run)),
        ("step", _step(run)),
        ("examples", _examples(run)),
        ("checkpoint", _checkpoint(run, now)),
        ("last spike", _spike(run, now)),
        ("last rollback", _rollback(run, now)),
        ("passed over", _unreadable_lines(run)),
        *_worst(run, width - _LABELS),
    ):
        if text:
            grid.add_row(label, text)
    return grid


def _speed(run: RunDirectory) -> str:
    record, words = run.history.last_train, []
    for key, unit in (("examples_per_second", "examples/s"), ("target_tokens_per_second", "tokens/s")):
        value = number(record.get(key))
        if value is not None:
            words.append(f"{figure(value)} {unit}")
    for key, label in (("mfu", "MFU"), ("data_wait_share", "data wait")):
        share = number(record.get(key))
        if share is not None:
            words.append(f"{label} {share:.1%}")
    return ", ".join(words)


def _step(run: RunDirectory) -> str:
    record, words = run.history.last_train, []
    seconds, rate, norm = (number(record.get(key)) for key in ("step_seconds", "learning_rate", "gradient_norm"))
    if seconds is not None:
        words.append(duration(seconds))
    rank, lag = number(record.get("slowest_rank")), number(record.get("slowest_rank_lag_seconds"))
    if rank is not None:
        words.append(f"slowest rank {rank:.0f}" + (f" (+{duration(lag)})" if lag is not None else ""))
    if rate is not None:
        words.append(f"lr {rate:.2e}")
    if norm is not None:
        words.append(f"norm {figure(norm)}")
    return ", ".join(words)


def _examples(run: RunDirectory) -> Text | None:
    history = run.history
    if not history.recent:
        return None
    text = Text(f"{history.examples:,.0f} trained on")
    for name, count in sorted(history.problem_counts().items()):
        text.append(", ").append(f"{count:,} {name}", "yellow" if count else "")
    return text


def _checkpoint(run: RunDirectory, now: float) -> Text | None:
    saves = run.history.of_type(Saved)
    committed = [save for save in saves if save.problem is None]
    failed = len(saves) - len(committed)
    text = Text()
    if committed:
        newest = committed[-1]
        text.append(f"step {newest.step:,}{_ago(newest, run, now)}")
        if newest.bytes:
            took = f" in {duration(newest.seconds)}" if newest.seconds is not None else ""
            text.append(f", {size(newest.bytes)}{took}")
    elif latest := run.checkpoint("latest"):
        text.append(latest)
    elif not failed:
        return None
    if best := run.checkpoint("best"):
        text.append(f"; best: {best}")
    if failed:
        text.append("; " if text else "").append(f"{failed} could not be written", "red")
        if saves[-1].problem is not None:
            text.append(f", the last: {saves[-1].problem}", "red")
    return text


def _spike(run: RunDirectory, now: float) -> str:
    spikes = run.history.of_type(Spike)
    if not spikes:
        return ""
    last = spikes[-1]
    text = f"step {last.step:,}{_ago(last, run, now)}: loss {figure(last.loss)}, usually {figure(last.usual)}"
    if last.directions:
        text += f"; {_arrow(last.directions[0].name)} {figure(last.directions[0].nll)}"
    return text


def _rollback(run: RunDirectory, now: float) -> str:
    rollbacks = run.history.of_type(RolledBack)
    if not rollbacks:
        return ""
    last = rollbacks[-1]
    start = f"from step {last.from_step:,} " if last.from_step is not None else ""
    return f"{start}to step {last.step:,}{_ago(last, run, now)}"


def _unreadable_lines(run: RunDirectory) -> str:
    count = run.history.unreadable_lines
    if not count:
        return ""
    lines = "1 line that is no record" if count == 1 else f"{count:,} lines that are no records"
    return f"{lines}, in metrics.jsonl"


def _ago(event: Event, run: RunDirectory, now: float) -> str:
    time = run.history.time_of(event)
    return f", {duration(now - time)} ago" if time is not None else ""


def _worst(run: RunDirectory, width: int) -> list[tuple[str, str]]:
    """Return the languages, by kind, and the directions of the highest recent training NLL."""
    rows = [
        (f"  {one_line(kind)}", _named(by_target, width))
        for kind, by_target in run.history.training_by_target().items()
        if len(by_target) > 1
    ]
    directions = run.history.directions()
    if directions is not None and len(directions.found) > 1:
        worst = {f"{one.source}>{one.target}": one.nll for one in directions.worst(_NAMED)}
        rows.append(("  direction", _named(worst, width)))
    return [("highest NLL", " "), *rows] if rows else []


def _named(values: Mapping[str, float], width: int) -> str:
    """Name as many as there is room for, the highest first; NaN is the highest."""
    text = ""
    for name, value in sorted(values.items(), key=lambda item: -item[1] if item[1] == item[1] else -math.inf)[:_NAMED]:
        more = f"{', ' if text else ''}{_arrow(name)} {value:.2f}"
        if text and len(text) + len(more) > width:
            break
        text += more
    return text


def _arrow(direction: str) -> str:
    return one_line(direction).replace(">", "→")
