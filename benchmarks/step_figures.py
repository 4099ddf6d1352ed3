"""Make figures of timings: medians over rounds, and of the ratios within each round."""

import statistics
from collections.abc import Sequence

from benchmarks.step_process import Timing

Figures = dict[str, float | str | None]


def ratio(over: Sequence[float], under: Sequence[float], name: str) -> Figures:
    """Return the median of the ratios within each round, and the lowest and the highest of them."""
    each = [a / b for a, b in zip(over, under, strict=True)]
    return {name: statistics.median(each), f"{name}_low": min(each), f"{name}_high": max(each)}


def seconds_an_example(timings: Sequence[Timing]) -> list[float]:
    return [timing.wall / timing.examples for timing in timings]


def cpu_share(timings: Sequence[Timing], threads: int) -> float:
    return statistics.median(timing.cpu / timing.wall for timing in timings) / threads


def mfu(timings: Sequence[Timing], peak: float) -> float:
    """Return the operations of what was real, a second, over the peak."""
    return statistics.median(timing.flops / timing.wall for timing in timings) / peak
