"""Draw numbers of many languages on one axis: a row a language, a dot a number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.pages.axes import ticks

_WIDTH, _MARGIN, _LETTER = 900, 36, 6.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """values: by language. colour: its number among those of the curves. ring: an open dot."""

    label: str
    values: Mapping[str, float]
    colour: int
    ring: bool = False

    @property
    def look(self) -> str:
        """The classes of its dots."""
        return f"k{self.colour} {'ring' if self.ring else ''}"


def dots(
    names: Sequence[str], series: Sequence[Series], label: str, spell: Callable[[float], str]
) -> dict[str, Any] | None:
    """Place numbers for the macro `dots` of parts.html.jinja, in the order of `names`; None where none is finite."""
    finite = [value for of in series for value in of.values.values() if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    left = 24 + _LETTER * max(map(len, names))

    def x(value: float) -> float:
        return left + 6 + (_WIDTH - left - _MARGIN) * (value - low) / ((high - low) or 1.0)

    rows = []
    for name in names:
        found = [(of, of.values[name]) for of in series if name in of.values]
        tips = ", ".join(f"{of.label} {spell(value)}" for of, value in found)
        points = [(of.look, x(value)) for of, value in found if math.isfinite(value)]
        rows.append({"name": name, "tip": f"{name}: {tips}", "points": points})
    shown = [of for of in series if of.values]
    axis = [(x(tick), tick) for tick in ticks(low, high, 8)]
    return {"label": label, "series": shown, "left": left, "ticks": axis, "rows": rows}
