"""Draw curves over steps, thinned to what the eye sees; nothing that stands out is lost."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.pages.axes import ValueAxis, ticks
from launcher.pages.colours import LIGHT
from launcher.pages.thinning import medians, stretches, thin
from trainer.runs.history import Curve
from trainer.runs.words import figure

COLOURS = len(LIGHT)
_WIDTH, _HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 16, 24
_PLOT, _FLOOR = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM
_BOX = {"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _LEFT + _PLOT, "top": _TOP, "bottom": _FLOOR}
#: Stretches of the plot that show their numbers when pointed at.
_TIPS = 80
#: A curve of fewer points shows them.
_DOTS = 40
#: A stretch of more points is pale behind the medians of so many parts of it.
_PARTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Curves to draw together.

    curves: by name; those in `dashed` are drawn so.  colours: their numbers, where they are not the curves' indices.
    spell: a value in words.  from_zero: begin the axis at 0 where nothing is below.
    exact: draw all points, as of settings; measurements are drawn as medians in front of them.
    titled: a single curve goes by the title, not by its name.  along: what the curves go over.
    """

    title: str
    unit: str
    curves: Mapping[str, Curve]
    dashed: frozenset[str] = frozenset()
    colours: Mapping[str, int] = field(default_factory=dict)
    spell: Callable[[float], str] = figure
    from_zero: bool = False
    exact: bool = False
    titled: bool = True
    along: str = "step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Marks on all charts of a run: steps where curves break, and its spikes (step -> words)."""

    last_step: int
    breaks: Sequence[int]
    spikes: Mapping[int, str]


def draw(of: Chart, marks: Marks) -> dict[str, Any] | None:
    """Place a chart in pixels for the macro `chart` of parts.html.jinja; None where nothing is recorded."""
    curves = {name: curve for name, curve in of.curves.items() if curve.values}
    if not curves:
        return None
    finite = [value for curve in curves.values() for value in curve.values if math.isfinite(value)]
    axis = ValueAxis(finite, top=_TOP, bottom=_FLOOR, from_zero=of.from_zero)
    last = max(marks.last_step, 1)

    def x(step: float) -> float:
        return _LEFT + _PLOT * min(step / last, 1.0)

    return {
        "title": of.title,
        "unit": of.unit + (", in equal ratios" if axis.logarithmic else ""),
        "box": _BOX,
        "rows": [(axis.y(value), of.spell(value)) for value in axis.ticks()],
        "columns": [(x(tick), f"{tick:,.0f}") for tick in ticks(0, last, 6)],
        "breaks": [x(step) for step in marks.breaks],
        "curves": [_draw_curve(name, curve, of, marks, x, axis.y) for name, curve in curves.items()],
        "crosses": _crosses(curves, x),
        "spikes": [x(step) for step in marks.spikes],
        "tips": _tips(curves, of, marks, last),
    }


def _draw_curve(
    name: str, curve: Curve, of: Chart, marks: Marks, x: Callable[[float], float], y: Callable[[float], float]
) -> dict[str, Any]:
    def path(steps: Sequence[float], values: Sequence[float]) -> str:
        points = [f"{x(step):.1f} {y(value):.1f}" for step, value in zip(steps, values, strict=True)]
        return "M" + "L".join(points if len(points) > 1 else 2 * points)  # a line of no length is a dot

    dots: list[tuple[float, float]] = []
    lines, pale = [], []
    count = len(curve.values)
    for part in stretches(curve, marks.breaks):
        indices = thin(part.steps, part.values, _PLOT)
        line = path([part.steps[index] for index in indices], [part.values[index] for index in indices])
        if count > 4 * _PARTS and not of.exact:
            pale.append(line)
            lines.append(path(*medians(part, max(_PARTS * len(part.values) // count, 1))))
        else:
            lines.append(line)
        if count <= _DOTS:
            dots += [(x(step), y(value)) for step, value in zip(part.steps, part.values, strict=True)]
    colour = f"k{of.colours.get(name, list(of.curves).index(name)) % COLOURS}"
    look = f"{colour} dashed" if name in of.dashed else colour
    return {
        "colour": colour,
        "look": look,
        "dashed": name in of.dashed,
        "paths": [(classes, "".join(paths)) for classes, paths in ((f"{look} pale", pale), (look, lines)) if paths],
        "dots": dots,
        "name": "last" if of.titled and len(of.curves) == 1 else name,
        "last": of.spell(curve.values[-1]),
    }


def _crosses(curves: Mapping[str, Curve], x: Callable[[float], float]) -> list[int]:
    """Return where a value is not finite; once for those that lie on each other."""
    found = {
        round(x(step))
        for curve in curves.values()
        for step, value in zip(curve.steps, curve.values, strict=True)
        if not math.isfinite(value)
    }
    return sorted(found)


def _tips(curves: Mapping[str, Curve], of: Chart, marks: Marks, last: int) -> list[tuple[float, float, str]]:
    """Return, by stretch of the plot, the last value of each curve in it, and what happened there."""
    tips = []
    for column in range(_TIPS):
        begin, end = last * column / _TIPS, last * (column + 1) / _TIPS
        lines = []
        for name, curve in curves.items():
            first, beyond = (bisect_left(curve.steps, math.floor(edge) + 1) for edge in (begin, end))
            if beyond > first:
                # A value that is not finite must not hide behind the last one.
                strange = [at for at in range(first, beyond) if not math.isfinite(curve.values[at])]
                at = strange[-1] if strange else beyond - 1
                label = "" if len(of.curves) == 1 else f"{name} "
                lines.append(f"{of.along} {curve.steps[at]:,}: {label}{of.spell(curve.values[at])}")
        lines += [f"step {step:,}: {text}" for step, text in marks.spikes.items() if begin < step <= end]
        lines += [f"went on from step {step:,}" for step in marks.breaks if begin < step <= end]
        if lines:
            tips.append((_LEFT + _PLOT * column / _TIPS, _PLOT / _TIPS, "\n".join(lines)))
    return tips
