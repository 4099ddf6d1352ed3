"""Progress in a log: soon, then at least every 30 s, with rate and ETA; nothing of what is over at once."""

import io
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from trainer.terminal.progress import FIRST_SECONDS, LastLine, LogStage, in_minutes, stage, tick_until, track


class Clock:
    """Moves when it is told to. `wait` is an Event's for a stage that ends at `end`."""

    def __init__(self, end: float = 0.0) -> None:
        self.now, self.end = 1000.0, 1000.0 + end

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now = min(self.now + seconds, self.end)
        return self.now >= self.end


class Log:
    def __init__(self, clock: Clock) -> None:
        self.clock, self.lines, self.times = clock, list[str](), list[float]()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.times.append(self.clock.now - 1000)


def logged(
    total: float | None, seconds: float, work: Callable[[LogStage, float], None] = lambda *_: None
) -> tuple[list[str], list[float]]:
    """A stage of so many seconds; `work` is called at every second."""
    clock = Clock(end=seconds)
    log = Log(clock)
    shown = LogStage("features", total, log.say, clock=clock, last_line=LastLine())

    def wait(until: float) -> bool:
        for _ in range(int(until)):
            if clock.wait(1.0):
                return True
            work(shown, clock.now - 1000)
        return clock.wait(until - int(until))

    tick_until(shown, wait)
    shown.close()
    return log.lines, log.times


def test_a_long_stage_prints_soon_and_at_least_every_30_seconds_with_rate_and_eta() -> None:
    lines, times = logged(100, 180, lambda shown, at: shown.reach(at // 2))
    assert times[0] == pytest.approx(FIRST_SECONDS, abs=1)
    assert max(after - before for before, after in zip([0, *times], times, strict=False)) < 30
    assert lines[0] == "features: 5/100 (5%), 2.0 s each, 0:10 elapsed, eta 3:10"
    assert lines[-2].startswith("features: 85/100 (85%), 2.0 s each, 2:50 elapsed, eta 0:")
    assert lines[-1] == "features: 89/100 left after 3:00"


def test_a_stage_that_counts_nothing_says_that_it_goes_on() -> None:
    lines, times = logged(None, 55)
    assert lines == [
        "features: still running, 0:10 elapsed",
        "features: still running, 0:30 elapsed",
        "features: still running, 0:50 elapsed",
        "features: done in 0:55",
    ]
    assert times == [10, 30, 50, 55]


def test_a_short_stage_prints_nothing() -> None:
    assert logged(10, 9.9, lambda shown, at: shown.advance())[0] == []


def test_nothing_done_yet_has_no_eta() -> None:
    assert logged(10, 11)[0][0] == "features: 0/10 (0%), 0:10 elapsed, eta unknown"


def test_what_an_earlier_start_did_makes_no_rate() -> None:
    """900 of 1,000 are found done in the first moment; the rest takes a second each."""
    clock = Clock()
    log = Log(clock)
    shown = LogStage("shards", 1000, log.say, clock=clock, last_line=LastLine())
    shown.reach(900)
    for _ in range(10):
        clock.now += 1
        shown.advance()
    shown.tick()
    assert log.lines == ["shards: 910/1,000 (91%), 1.0/s, 0:10 elapsed, eta 1:30"]


def test_a_rate_is_that_of_the_last_minutes() -> None:
    clock = Clock()
    log = Log(clock)
    shown = LogStage("shards", 10_000, log.say, clock=clock, last_line=LastLine())
    for each in [100] * 50 + [1] * 150:
        clock.now += 1
        shown.advance(each)
    shown.tick()
    assert "1.0/s" in log.lines[0]
    assert "eta 1:20:" in log.lines[0]


def test_short_stages_in_a_row_are_no_long_silence() -> None:
    clock, last_line = Clock(), LastLine()
    log = Log(clock)
    for number in range(30):
        shown = LogStage(f"part {number}", 4, log.say, clock=clock, last_line=last_line)
        for _ in range(4):
            clock.now += 1
            shown.advance()
            shown.tick()
        shown.close()
    ticks = [at for at, line in zip(log.times, log.lines, strict=True) if "eta" in line]
    assert ticks == [20, 40, 60, 80, 100, 120]


def test_a_stage_inside_another_speaks_for_both() -> None:
    clock, last_line = Clock(), LastLine()
    log = Log(clock)
    outer, inner = (LogStage(name, 100, log.say, clock=clock, last_line=last_line) for name in ("outer", "inner"))
    for _ in range(60):
        clock.now += 1
        inner.tick()
        outer.tick()
    assert {line.partition(":")[0] for line in log.lines} == {"inner", "outer"}
    gaps = [after - before for before, after in zip([0, *log.times], log.times, strict=False)]
    assert min(gaps[1:]) >= FIRST_SECONDS
    assert max(gaps) <= 20


def test_a_silent_step_says_what_is_being_done_and_for_how_long() -> None:
    clock = Clock()
    log = Log(clock)
    shown = LogStage("training", 100, log.say, clock=clock, last_line=LastLine())
    shown.reach(12)
    clock.now += 30
    shown.note("step 13")
    clock.now += 95
    shown.tick()
    assert log.lines == ["training: 12/100 (12%), 2:05 elapsed, eta unknown, now step 13, for 1:35"]


def test_a_log_gets_no_line_of_a_quick_stage_and_no_thread_stays() -> None:
    out = Console(file=io.StringIO(), highlight=False)
    before = threading.active_count()
    with stage("quick", 3, out=out) as shown:
        shown.advance()
    assert list(track([1, 2, 3], "items", out=out)) == [1, 2, 3]
    with pytest.raises(ValueError, match="inside"), stage("failing", out=out):
        raise ValueError("inside")
    assert threading.active_count() == before
    assert out.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_terminal_has_a_bar_and_one_for_stages_inside() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)
    with stage("[all] of it", 2, out=out) as outer:
        with stage("a part", out=out) as inner:
            inner.advance()
        outer.advance(2)
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert "[all] of it" in shown
    assert "2/2" in shown


def test_durations() -> None:
    assert [in_minutes(seconds) for seconds in (0, 59.9, 75, 3599, 3600, 360_000)] == [
        *("0:00", "0:59", "1:15", "59:59", "1:00:00", "100:00:00")
    ]
