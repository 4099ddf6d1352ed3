"""Curves over steps as inline SVG: thousands of points thinned to what the eye sees, nothing lost that stands out."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from launcher.pages.page import escape
from launcher.pages.thinning import medians, stretches, thin
from trainer.runs.history import Curve
from trainer.runs.words import figure

WIDTH, HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 16, 24
_PLOT = WIDTH - _LEFT - _RIGHT
#: Stretches of the plot that tell their numbers when pointed at.
_TIPS = 80
#: A curve of fewer points shows them.
_DOTS = 40
#: A stretch of more points is pale behind the medians of so many parts of it.
_PARTS = 100
#: The highest value over the median from which on an axis goes in equal ratios.
_LOGARITHMIC = 30
COLOURS = 8
#: Values are drawn as if none were further from 0, and none of two nearer to each other: so their spans are numbers.
_MOST, _LEAST = 1e300, 1e-300

_LIGHT = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#57606a", "#0a7ea4")
_DARK = ("#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#f778ba", "#d29922", "#8b949e", "#39c5cf")

STYLE = (
    ":root { "
    + " ".join(f"--c{place}: {colour};" for place, colour in enumerate(_LIGHT))
    + " --bad: #cf222e; }\n@media (prefers-color-scheme: dark) { :root { "
    + " ".join(f"--c{place}: {colour};" for place, colour in enumerate(_DARK))
    + " --bad: #ff7b72; } }\n"
    + "".join(f".k{place} {{ stroke: var(--c{place}); fill: var(--c{place}); }} " for place in range(COLOURS))
    + """
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1rem 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; } figcaption .soft { font-weight: 400; }
.chart { width: 100%; height: auto; } .chart path { fill: none; stroke-width: 1.5; stroke-linejoin: round;
  stroke-linecap: round; }
.chart path.dashed { stroke-dasharray: 5 3; }
.chart path.pale { stroke-width: 1; stroke-dasharray: none; stroke-opacity: .4; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .restart { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 3; }
.chart .spike { fill: var(--bad); } .chart .bad { stroke: var(--bad); stroke-width: 1.5; fill: none; }
.chart .tip { fill: transparent; } .chart .tip:hover { fill: var(--ink); fill-opacity: .08; }
.names { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: .1rem 0 0; font-size: .85rem; }
.names svg { display: inline-block; vertical-align: middle; }
"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """curves: by name; those in `dashed` are drawn so.  spell: a value as it stands at the axis.

    colours: number of the colour of a curve, where it is not its place.
    from_zero: whether the axis begins at 0 where nothing is below.
    exact: whether they are no measurements, whose medians would stand before them.
    title_says_it: what a curve that is alone is, so that its name need not be there.
    along: what it goes over.
    """

    title: str
    unit: str
    curves: Mapping[str, Curve]
    dashed: frozenset[str] = frozenset()
    colours: Mapping[str, int] = field(default_factory=dict)
    spell: Callable[[float], str] = figure
    from_zero: bool = False
    exact: bool = False
    title_says_it: bool = True
    along: str = "step"

    def colour(self, name: str) -> str:
        """The class of a curve's colour."""
        return f"k{self.colours.get(name, list(self.curves).index(name)) % COLOURS}"

    def spelled(self, name: str) -> str:
        """A curve's name where it is told."""
        return "last" if self.title_says_it and len(self.curves) == 1 else name


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Marks on all charts of a run: breaks of its curves, and its spikes (step -> the record's words)."""

    last_step: int
    breaks: Sequence[int]
    spikes: Mapping[int, str]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them."""
    span = high - low
    if not _LEAST < span < math.inf:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    unit = power * next(size for size in (1, 2, 5, 10) if size * power >= raw * 0.999)
    first, last = math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9)
    return [place * unit for place in range(first, last + 1)]


def chart(of: Chart, marks: Marks) -> str:
    """A figure with caption, SVG, and a line that names the curves; empty where nothing is recorded."""
    curves = {name: curve for name, curve in of.curves.items() if curve.values}
    if not curves:
        return ""
    axis = _Axis(of, [value for curve in curves.values() for value in curve.values if math.isfinite(value)])
    last = max(marks.last_step, 1)

    def x(step: float) -> float:
        return _LEFT + _PLOT * min(step / last, 1.0)

    parts = [
        f'<svg class="chart" role="img" aria-label="{escape(of.title)}" viewBox="0 0 {WIDTH} {HEIGHT}">',
        *axis.lines(),
    ]
    for tick in ticks(0, last, 6):
        parts.append(f'<text class="number" x="{x(tick):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick:,.0f}</text>')
    for step in marks.breaks:
        parts.append(
            f'<line class="restart" x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"></line>'
        )
    for name, curve in curves.items():
        look = of.colour(name) + (" dashed" if name in of.dashed else "")
        parts += _drawn(curve, marks.breaks, x, axis.y, look, exact=of.exact)
    parts += _not_finite(curves, x)
    for step in marks.spikes:
        parts.append(f'<path class="spike" d="M{x(step) - 4:.1f} 3h8l-4 8z"></path>')
    parts += _tips(curves, of, marks, last)
    scale = ", in equal ratios" if axis.logarithmic else ""
    return (
        f'<figure><figcaption>{escape(of.title)} <span class="soft">{escape(of.unit + scale)}</span></figcaption>'
        + "\n".join(parts)
        + f"</svg>{_names(curves, of)}</figure>"
    )


class _Axis:
    """Values to heights."""

    def __init__(self, of: Chart, finite: Sequence[float]) -> None:
        self._spell = of.spell
        low, high = (_clipped(min(finite)), _clipped(max(finite))) if finite else (0.0, 1.0)
        self.logarithmic = low > 0 and high > _LOGARITHMIC * median(finite)
        if of.from_zero and low > 0 and not self.logarithmic:
            low = 0.0
        if self.logarithmic:
            low, high = math.log10(low), math.log10(high)
        if not high - low > _LEAST:
            around = abs(low) / 2 if abs(low) > _LEAST else 0.5
            low, high = low - around, high + around
        margin = (high - low) / 20
        self._low, self._high = low if of.from_zero and low == 0 else low - margin, high + margin

    def y(self, value: float) -> float:
        """Return the place of a finite value."""
        place = math.log10(value) if self.logarithmic else _clipped(value)
        share = (place - self._low) / (self._high - self._low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def lines(self) -> list[str]:
        """Lines across the plot, with their values to the left."""
        values = ticks(self._low, self._high, 5)
        if self.logarithmic:
            decades = range(max(math.floor(self._low), -307), min(math.ceil(self._high), 307) + 1)  # what floats hold
            sizes = (1,) if len(decades) > 4 else (1, 2, 5)
            values = [size * 10.0**decade for decade in decades for size in sizes]
            values = [value for value in values if self._low <= math.log10(value) <= self._high]
        parts = []
        for value in values:
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"></line>'
                f'<text class="number" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(self._spell(value))}'
                "</text>"
            )
        return parts


def _clipped(value: float) -> float:
    return max(-_MOST, min(value, _MOST))


def _drawn(
    curve: Curve,
    breaks: Sequence[int],
    x: Callable[[float], float],
    y: Callable[[float], float],
    look: str,
    *,
    exact: bool,
) -> list[str]:
    def path(steps: Sequence[float], values: Sequence[float]) -> str:
        points = [f"{x(step):.1f} {y(value):.1f}" for step, value in zip(steps, values, strict=True)]
        return "M" + "L".join(points if len(points) > 1 else 2 * points)  # a line of no length is a dot

    dots, lines, pale = [], [], []
    of_all = len(curve.values)
    for part in stretches(curve, breaks):
        places = thin(part.steps, part.values, _PLOT)
        line = path([part.steps[place] for place in places], [part.values[place] for place in places])
        if of_all > 4 * _PARTS and not exact:
            pale.append(line)
            lines.append(path(*medians(part, max(_PARTS * len(part.values) // of_all, 1))))
        else:
            lines.append(line)
        if of_all <= _DOTS:
            dots += [
                f'<circle class="{look}" cx="{x(step):.1f}" cy="{y(value):.1f}" r="2"></circle>'
                for step, value in zip(part.steps, part.values, strict=True)
            ]
    drawn = [f'<path class="{look} pale" d="{"".join(pale)}"></path>'] if pale else []
    drawn += [f'<path class="{look}" d="{"".join(lines)}"></path>'] if lines else []
    return drawn + dots


def _not_finite(curves: Mapping[str, Curve], x: Callable[[float], float]) -> list[str]:
    """A cross above the plot where a value is not finite; one for those that lie on each other."""
    found = {
        round(x(step))
        for curve in curves.values()
        for step, value in zip(curve.steps, curve.values, strict=True)
        if not math.isfinite(value)
    }
    return [f'<path class="bad" d="M{left - 3} {_TOP + 1}l6 6m0 -6l-6 6"></path>' for left in sorted(found)]


def _tips(curves: Mapping[str, Curve], of: Chart, marks: Marks, last: int) -> list[str]:
    """Stretches of the plot that say the last value of each curve in them, and what happened there."""
    parts = []
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
            parts.append(
                f'<rect class="tip" x="{_LEFT + _PLOT * column / _TIPS:.1f}" y="0" width="{_PLOT / _TIPS:.1f}" '
                f'height="{HEIGHT - _BOTTOM}"><title>{escape(chr(10).join(lines))}</title></rect>'
            )
    return parts


def _names(curves: Mapping[str, Curve], of: Chart) -> str:
    """Return the legend: name and colour of every curve, with its last value."""
    marks = []
    for name, curve in curves.items():
        dashed = ' stroke-dasharray="4 3"' if name in of.dashed else ""
        marks.append(
            f'<span><svg width="18" height="8" aria-hidden="true"><line class="{of.colour(name)}" x1="0" x2="18" '
            f'y1="4" y2="4" stroke-width="2"{dashed}></line></svg> {escape(of.spelled(name))} '
            f'<span class="soft">{escape(of.spell(curve.values[-1]))}</span></span>'
        )
    return f'<p class="names">{"".join(marks)}</p>'
