"""Show the progress of a long stage: rich's bar on a terminal, lines in a log.

    with stage("features and shards", total=1_966) as progress:
        progress.advance(64)
    with stage("training SentencePiece"):  # nothing to count
        ...
    for name in track(names, "hashes"):
        ...

The lines are our own, since rich prints none where output is no terminal: a stage of a few seconds prints nothing, a
longer one its count, rate and ETA, soon and then at least every 30 s, also while Python waits for something else.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from trainer.terminal.text import Console

#: A stage that ends sooner prints nothing in a log.
FIRST_SECONDS = 10.0
#: The longest time without a line in a log; docs promise thirty seconds.
SILENT_SECONDS = 20.0
#: The rate is measured over this time: a corpus has easy parts and hard ones.
_RATE_SECONDS = 120.0
#: What is counted in a stage's first moment was done by an earlier start of the same command.
_MOMENT_SECONDS = 1.0

Item = TypeVar("Item")


class Stage:
    """One stage of a command. This one prints nothing, for ranks other than the first."""

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more as done."""

    def reach(self, done: float, total: float | None = None) -> None:
        """Set the count to `done`. total: where it is known only now."""

    def note(self, what: str) -> None:
        """Name the work that begins now; a log shows it, and for how long."""


@dataclass(slots=True)
class LastLine:
    """State shared by the stages of a process: nested ones, and short ones in a row, make one silence.

    at: when a line was last printed, or the silence began.  stages: begun and not ended.  ended: end of the last one.
    """

    at: float = 0.0
    stages: int = 0
    ended: float = 0.0


_last_line = LastLine()


class LogStage(Stage):
    """A stage in a log. `tick` prints a line where one is due; all else is cheap."""

    def __init__(
        self,
        what: str,
        total: float | None,
        write: Callable[[str], None],
        *,
        first: float = FIRST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        last_line: LastLine = _last_line,
    ) -> None:
        self._what, self._total, self._write, self._first = what, total, write, first
        self._clock, self._last_line, self._lock = clock, last_line, threading.Lock()
        self._began = clock()
        if not last_line.stages and self._began - last_line.ended > _MOMENT_SECONDS:
            last_line.at = self._began
        last_line.stages += 1
        self._done = 0.0
        self._samples = deque([(self._began, 0.0)])  # (time, count)
        self._note: tuple[str, float] | None = None
        self._printed = False

    def advance(self, amount: float = 1) -> None:
        self.reach(self._done + amount)

    def reach(self, done: float, total: float | None = None) -> None:
        with self._lock:
            now = self._clock()
            self._done = done
            self._total = self._total if total is None else total
            if now - self._began < _MOMENT_SECONDS or done < self._samples[-1][1]:
                self._samples = deque([(now, done)])
            elif now - self._samples[-1][0] >= _MOMENT_SECONDS:
                self._samples.append((now, done))
                while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
                    self._samples.popleft()

    def note(self, what: str) -> None:
        with self._lock:
            self._note = what, self._clock()

    def due_in(self) -> float:
        """Return the seconds until a line is due; 0 or less: now."""
        due = self._last_line.at + SILENT_SECONDS
        if not self._printed:
            due = min(due, max(self._began, self._last_line.at) + self._first)
        return due - self._clock()

    def tick(self) -> None:
        """Print a line if one is due."""
        with self._lock:
            if self.due_in() <= 0:
                self._print(self._line())

    def close(self, *, finished: bool = True) -> None:
        """End the stage, with a last line if it had printed any."""
        with self._lock:
            if self._printed and finished:
                took = in_minutes(self._clock() - self._began)
                whole = self._total is None or self._done >= self._total
                count = f"{self._count()} " if self._done or not whole else ""
                self._print(f"{self._what}: {count}{'done in' if whole else 'left after'} {took}")
            self._last_line.stages -= 1
            self._last_line.ended = self._clock()

    def _print(self, line: str) -> None:
        self._last_line.at, self._printed = self._clock(), True
        self._write(line)

    def _line(self) -> str:
        now, total = self._clock(), self._total
        share = f" ({self._done / total:.0%})" if total else ""
        parts = [f"{self._count()}{share}" if self._done or total is not None else "still running"]
        began, done = self._samples[0]
        rate = (self._done - done) / (now - began) if now > began else 0.0
        if rate > 0:
            parts.append(f"{rate:,.1f}/s" if rate >= 1 else f"{1 / rate:,.1f} s each")
        parts.append(f"{in_minutes(now - self._began)} elapsed")
        if total is not None:
            parts.append(f"eta {in_minutes((total - self._done) / rate) if rate > 0 else 'unknown'}")
        if self._note is not None:
            what, since = self._note
            parts.append(f"now {what}, for {in_minutes(now - since)}")
        return f"{self._what}: {', '.join(parts)}"

    def _count(self) -> str:
        return f"{self._done:,.0f}" if self._total is None else f"{self._done:,.0f}/{self._total:,.0f}"


class _LiveStage(Stage):
    """A stage on a terminal, whose bar moves by itself: notes are not shown."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, amount: float = 1) -> None:
        self._bar.advance(self._task, amount)

    def reach(self, done: float, total: float | None = None) -> None:
        self._bar.update(self._task, completed=done, total=total)


@contextlib.contextmanager
def stage(
    what: str,
    total: float | None = None,
    *,
    out: Console | None = None,
    quiet: bool = False,
    first: float = FIRST_SECONDS,
) -> Iterator[Stage]:
    """Show a stage while the body runs.

    total: amount of work; None where it is unknown.  out: default: standard output.  quiet: show nothing, on ranks
    other than the first.  first: seconds until the first line in a log.
    """
    if quiet:
        yield Stage()
        return
    out = out or Console(soft_wrap=True)
    live = out.is_terminal and not out.is_dumb_terminal
    with _live(what, total, out) if live else _logged(what, total, out, first) as shown:
        yield shown


def track(
    items: Iterable[Item],
    what: str,
    total: float | None = None,
    *,
    out: Console | None = None,
    quiet: bool = False,
) -> Iterator[Item]:
    """Yield the items, and show how many were taken. total: their number, where they have no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with stage(what, total, out=out, quiet=quiet) as progress:
        yield from counting(items, progress.advance)


def counting(items: Iterable[Item], advance: Callable[[], None]) -> Iterator[Item]:
    """Yield the items, and call `advance` after each."""
    for item in items:
        yield item
        advance()


def line_printed() -> None:
    """Record that this process has just printed another line that shows its progress."""
    _last_line.at = time.monotonic()


@contextlib.contextmanager
def _logged(what: str, total: float | None, out: Console, first: float) -> Iterator[Stage]:
    def write(line: str) -> None:
        # On another thread than the command's own, which meets the error itself when it prints next.
        with contextlib.suppress(OSError, ValueError):
            out.print(line, markup=False, soft_wrap=True)

    logged, over = LogStage(what, total, write, first=first), threading.Event()
    timer = threading.Thread(target=tick_until, args=(logged, over.wait), name="progress", daemon=True)
    timer.start()
    finished = False
    try:
        yield logged
        finished = True
    finally:
        over.set()
        timer.join()
        logged.close(finished=finished)


def tick_until(logged: LogStage, over: Callable[[float], bool]) -> None:
    """Print lines as they become due, until `over`, which waits so many seconds, returns True."""
    while not over(max(logged.due_in(), 0.1)):
        logged.tick()


#: The bar of this process, to which nested stages add theirs: a terminal has room for one.
_shown: Progress | None = None


@contextlib.contextmanager
def _live(what: str, total: float | None, out: Console) -> Iterator[Stage]:
    global _shown
    if _shown is not None:
        task = _shown.add_task(what, total=total)
        try:
            yield _LiveStage(_shown, task)
        finally:
            _shown.remove_task(task)
        return
    _shown = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Count(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=out,
        redirect_stdout=not out.stderr,  # results that are printed meanwhile stay on standard output
        transient=total is None or out.stderr,  # a bar without a count, or beside results, leaves no trace
    )
    try:
        with _shown:
            yield _LiveStage(_shown, _shown.add_task(what, total=total))
    finally:
        _shown = None


class _Count(MofNCompleteColumn):
    """Show the count, where there is one."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.completed or task.total is not None else Text("")


def in_minutes(seconds: float) -> str:
    """Return a duration like 0:05, 12:40 or 1:02:03."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
