"""A picture of a number for every direction: rows are target languages, columns source languages."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from launcher.inspection.views import RAMP, levels
from launcher.pages.page import escape

_CELL = 16
_LETTER = 6.2  # pixels of a letter of the labels, about

STYLE = (
    "".join(f".s{step} {{ fill: {colour}; }} " for step, colour in enumerate(RAMP, 1))
    + ".s0 { fill: var(--none); } .matrix rect:hover { stroke: var(--ink); stroke-width: 2; }"
)


def matrix(
    names: Sequence[str],
    values_TS: NDArray[np.float64] | NDArray[np.int64],
    tip: Callable[[int, int], str],
    label: str,
) -> str:
    """An SVG of `values_TS` (L, L) by [target, source] with a tooltip a cell: `tip(target, source)`.

    Colours go in equal ratios from the least to the most.
    """
    steps_TS = levels(values_TS)
    return grid(names, lambda target, source: f"s{steps_TS[target, source]}", tip, label)


def grid(names: Sequence[str], look: Callable[[int, int], str], tip: Callable[[int, int], str], label: str) -> str:
    """An SVG with a cell for every direction, of the classes that `look(target, source)` says."""
    left = top = 12 + _LETTER * max(map(len, names))
    width, height = left + _CELL * len(names) + 4, top + _CELL * len(names) + 4
    parts = [
        f'<div class="wide"><svg class="matrix" role="img" aria-label="{escape(label)}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
    ]
    for place, name in enumerate(names):
        middle = _CELL * (place + 0.5)
        parts.append(f'<text x="{left - 6:.0f}" y="{top + middle + 4:.0f}" text-anchor="end">{escape(name)}</text>')
        x, y = left + middle + 4, top - 6
        parts.append(f'<text transform="translate({x:.0f} {y:.0f}) rotate(-90)">{escape(name)}</text>')
    for target in range(len(names)):
        for source in range(len(names)):
            parts.append(
                f'<rect class="{look(target, source)}" x="{left + _CELL * source:.0f}" '
                f'y="{top + _CELL * target:.0f}" width="{_CELL - 1}" height="{_CELL - 1}">'
                f"<title>{escape(tip(target, source))}</title></rect>"
            )
    return "\n".join([*parts, "</svg></div>"])


def legend(values: NDArray[np.float64] | NDArray[np.int64], spell: Callable[[float], str]) -> str:
    """What the colours of `matrix` stand for: the least and the most of each that occurs."""
    return f'<p class="soft keys">{keys(values, levels(values), spell)}</p>'


def keys(
    values: NDArray[np.float64] | NDArray[np.int64], step: NDArray[np.int64], spell: Callable[[float], str]
) -> str:
    """A patch of each colour with the least and the most of the values that have its step."""
    marks = []
    for number in range(1, len(RAMP) + 1):
        of_step = values[step == number]
        if of_step.size:
            low, high = spell(float(of_step.min())), spell(float(of_step.max()))
            text = low if low == high else f"{low} – {high}"
            marks.append(
                f'<span class="key"><svg width="12" height="12" aria-hidden="true"><rect class="s{number}" width="12" '
                f'height="12"></rect></svg> {escape(text)}</span>'
            )
    return " ".join(marks)
