"""Draw a curve in a few letters."""

import math
from collections.abc import Sequence

_STEPS = "▁▂▃▄▅▆▇█"
#: A stretch without a finite value.
_NOT_FINITE = "×"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the means of `width` stretches of `values`, or fewer values themselves, as letters of a height."""
    count = min(width, len(values))
    means = []
    for index in range(count):
        stretch = values[index * len(values) // count : (index + 1) * len(values) // count]
        finite = [value for value in stretch if math.isfinite(value)]
        # Shares are summed, for the sum of finite values need not be finite.
        means.append(sum(value / len(finite) for value in finite) if finite else None)
    known = [mean for mean in means if mean is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    # Of equal values the means need not be equal to the last digit.
    if not high / 2 - low / 2 > 1e-9 * max(abs(low), abs(high)):
        return "".join(_NOT_FINITE if mean is None else _STEPS[3] for mean in means)
    scale = (len(_STEPS) - 1) / (high / 2 - low / 2)
    return "".join(_NOT_FINITE if mean is None else _STEPS[round((mean / 2 - low / 2) * scale)] for mean in means)
