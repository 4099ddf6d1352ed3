"""How a round of `benchmarks.loader` is timed: the same for every contender, in whichever process it runs.

Imports nothing but the standard library, as it runs under the peers' interpreter too.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What was delivered, in how much time. cpu: user and system seconds of the process and its children."""

    records: int
    wall: float
    cpu: float

    def __add__(self, other: "Round") -> "Round":
        return Round(records=self.records + other.records, wall=self.wall + other.wall, cpu=self.cpu + other.cpu)


def time_round(batches: Iterator[Any], size: Callable[[Any], int], seconds: float, warm: int) -> Round:
    """Take batches and drop them until the clock has run for `seconds`.

    size: how many records a batch holds.  warm: batches before the clock starts, so that what was prefetched is gone.
    None in place of a batch says that an epoch ended: the clock stands from then on to the end of the next warm-up,
    since an epoch of the real thing lasts hours, not half a second.
    """
    records, wall, cpu = 0, 0.0, 0.0
    while wall < seconds:
        left = warm
        while left:
            left = warm if next(batches) is None else left - 1
        cpu_before, before = cpu_seconds(), time.perf_counter()
        now, deadline = before, before + seconds - wall
        while now < deadline:
            batch = next(batches)
            now = time.perf_counter()
            if batch is None:
                break
            records += size(batch)
            # Kept until the next one is there, it would be a buffer more that has to stay in the cache.
            del batch
        wall += now - before
        cpu += cpu_seconds() - cpu_before
    return Round(records=records, wall=wall, cpu=cpu)


def cpu_seconds() -> float:
    """User and system time of this process, of its children that ended and, on Linux, of those that live."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system + sum(map(_cpu_seconds, _children()))


def busy_seconds() -> float:
    """What all the machine's processors have worked, for whomever; 0 where the system does not tell."""
    try:
        times = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, interrupt, soft_interrupt, stolen = map(int, times[:8])
    return (user + nice + system + interrupt + soft_interrupt + stolen) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds(process: int) -> float:
    try:
        # The name, in brackets, may hold blanks. utime and stime are the fields 14 and 15, then those of its children.
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _children() -> list[int]:
    """All living descendants of this process."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        process = waiting.pop()
        children: list[int] = []
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                children += map(int, task.read_text(encoding="ascii").split())
            except OSError:  # it just ended
                continue
        found += children
        waiting += children
    return found
