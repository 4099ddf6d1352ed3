"""Numbers of many languages on one axis: a row a language, a dot a number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from launcher.pages.curves import ticks
from launcher.pages.page import escape
from trainer.runs.words import figure

STYLE = """
.key { display: inline-flex; align-items: center; gap: .3rem; margin-right: .8rem; }
.keys svg { display: inline-block; }
.dots .rule { stroke: var(--line); } .dots .ring, .keys .ring { fill: none; stroke-width: 1.5; }
.dots .row { fill: transparent; } .dots .row:hover { fill: var(--ink); fill-opacity: .06; }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dots:
    """values: by language. colour: its number among those of the curves. ring: not a full dot."""

    label: str
    values: Mapping[str, float]
    colour: int
    ring: bool = False

    @property
    def look(self) -> str:
        return f"k{self.colour} {'ring' if self.ring else ''}"


def dots(names: Sequence[str], series: Sequence[Dots], label: str, spell: Callable[[float], str]) -> str:
    """A picture with its legend; empty where no number is finite. spell: a number in a tooltip."""
    finite = [value for of in series for value in of.values.values() if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span, left, width = (high - low) or 1.0, 24 + 6.2 * max(map(len, names)), 900
    height = 17 * len(names) + 26

    def x(value: float) -> float:
        return left + 6 + (width - left - 36) * (value - low) / span

    parts = [
        f'<div class="wide"><svg class="dots" role="img" aria-label="{escape(label)}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    ]
    for tick in ticks(low, high, 8):
        parts.append(
            f'<line class="rule" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{height - 22}"></line>'
            f'<text class="number" x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{figure(tick)}</text>'
        )
    for row, name in enumerate(names):
        y = 17 * row + 9
        tips = []
        for of in series:
            value = of.values.get(name)
            if value is None:
                continue
            tips.append(f"{of.label} {spell(value)}")
            if math.isfinite(value):
                parts.append(f'<circle class="{of.look}" cx="{x(value):.1f}" cy="{y}" r="4"></circle>')
        parts.append(f'<text x="{left - 8:.0f}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="row" x="0" y="{17 * row}" width="{width}" height="17"><title>'
            f"{escape(f'{name}: ' + ', '.join(tips))}</title></rect>"
        )
    legend = "".join(
        f'<span class="key"><svg width="12" height="12" aria-hidden="true"><circle class="{of.look}" cx="6" '
        f'cy="6" r="4"></circle></svg> {escape(of.label)}</span>'
        for of in series
        if of.values
    )
    return f'<p class="soft keys">{legend}</p>{"".join(parts)}</svg></div>'
