"""Scale the axes of pictures: round numbers, round moments, and values of any size mapped to heights."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

#: Values are drawn as if none were further from 0, and none of two nearer to each other: so their spans are finite.
_MOST, _LEAST = 1e300, 1e-300
#: The highest value over the median from which on an axis is logarithmic.
_LOGARITHMIC = 30
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
#: Seconds between two lines of an axis of time.
_SPANS = (
    *(1, 2, 5, 10, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 4 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY),
)
_MOST_TICKS = 11


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    span = high - low
    if not _LEAST < span < math.inf:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    unit = power * next(size for size in (1, 2, 5, 10) if size * power >= raw * 0.999)
    first, last = math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9)
    return [index * unit for index in range(first, last + 1)]


def time_ticks(first: float, last: float) -> list[tuple[float, str]]:
    """Return round moments of UTC with their labels: the day where it is another one, the time of day elsewhere."""
    span = max(last - first, 1.0)
    unit = next((unit for unit in _SPANS if span / unit <= _MOST_TICKS), _DAY * math.ceil(span / _MOST_TICKS / _DAY))
    found: list[tuple[float, str]] = []
    day = None
    for index in range(math.ceil(first / unit), math.floor(last / unit) + 1):
        try:
            when = datetime.fromtimestamp(index * unit, UTC)
        except (ValueError, OverflowError, OSError):
            return found
        text = when.strftime("%H:%M:%S" if unit < _MINUTE else "%H:%M")
        if when.date() != day:
            text = when.strftime("%b %d") if unit >= _DAY or text.startswith("00:00") else f"{when:%b %d} {text}"
        day = when.date()
        found.append((index * unit, text))
    return found


class ValueAxis:
    """Map finite values to heights from `top` (the most) to `bottom`; logarithmic where the most stands out."""

    def __init__(self, finite: Sequence[float], *, top: int, bottom: int, from_zero: bool) -> None:
        """finite: all that will be drawn. from_zero: begin at 0 where nothing is below."""
        self._top, self._bottom = top, bottom
        low, high = (_clipped(min(finite)), _clipped(max(finite))) if finite else (0.0, 1.0)
        self.logarithmic = low > 0 and high > _LOGARITHMIC * median(finite)
        if from_zero and low > 0 and not self.logarithmic:
            low = 0.0
        if self.logarithmic:
            low, high = math.log10(low), math.log10(high)
        if not high - low > _LEAST:
            around = abs(low) / 2 if abs(low) > _LEAST else 0.5
            low, high = low - around, high + around
        margin = (high - low) / 20
        self._low, self._high = low if from_zero and low == 0 else low - margin, high + margin

    def y(self, value: float) -> float:
        """Return the height of a finite value."""
        position = math.log10(value) if self.logarithmic else _clipped(value)
        return self._bottom - (position - self._low) / (self._high - self._low) * (self._bottom - self._top)

    def ticks(self) -> list[float]:
        """Return round values on the axis."""
        if not self.logarithmic:
            return ticks(self._low, self._high, 5)
        decades = range(max(math.floor(self._low), -307), min(math.ceil(self._high), 307) + 1)  # what floats hold
        sizes = (1,) if len(decades) > 4 else (1, 2, 5)
        values = [size * 10.0**decade for decade in decades for size in sizes]
        return [value for value in values if self._low <= math.log10(value) <= self._high]


def _clipped(value: float) -> float:
    return max(-_MOST, min(value, _MOST))
