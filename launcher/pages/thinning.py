"""Choose the points to draw of a curve of thousands."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from statistics import median

from trainer.runs.history import Curve


def thin(steps: Sequence[int], values: Sequence[float], columns: int) -> list[int]:
    """Return the places to draw, in order: the first, last, lowest and highest of each of `columns` stretches of steps.

    All values are finite. Few points are all drawn.
    """
    if len(values) <= 4 * columns:
        return list(range(len(values)))
    first, span = steps[0], max(steps[-1] - steps[0], 1)
    kept: set[int] = set()
    begin = 0
    for column in range(columns):
        end = len(values)
        if column < columns - 1:
            end = max(begin, bisect_left(steps, first + span * (column + 1) / columns))
        if end > begin:
            of_column = range(begin, end)
            kept |= {begin, end - 1, min(of_column, key=values.__getitem__), max(of_column, key=values.__getitem__)}
        begin = end
    return sorted(kept)


def stretches(curve: Curve, breaks: Sequence[int]) -> list[Curve]:
    """Return the parts that are drawn joined: none across a break or a value that is not finite."""
    parts: list[Curve] = []
    joined, life = False, 0
    for step, value in zip(curve.steps, curve.values, strict=True):
        now = bisect_left(breaks, step)  # a point at the very step of a break was before it
        if not math.isfinite(value):
            joined = False
            continue
        if not joined or now != life:
            parts.append(Curve())
        parts[-1].steps.append(step)
        parts[-1].values.append(value)
        joined, life = True, now
    return parts


def medians(part: Curve, count: int) -> tuple[list[float], list[float]]:
    """Return the middle steps and median values of `count` parts of a stretch; of one part, the median at both ends."""
    steps: list[float] = []
    values: list[float] = []
    for index in range(count):
        begin, end = index * len(part.steps) // count, (index + 1) * len(part.steps) // count
        if end > begin:
            steps.append((part.steps[begin] + part.steps[end - 1]) / 2)
            values.append(median(part.values[begin:end]))
    return (steps, values) if count > 1 else ([part.steps[0], part.steps[-1]], 2 * values)
