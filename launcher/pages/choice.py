"""One picture of all directions, coloured by the measure that a person chooses. No script: radio buttons and style."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from launcher.inspection.views import RAMP
from launcher.pages.matrix import grid, keys
from launcher.pages.page import escape

#: (source, target) by name.
Pair = tuple[str, str]

#: A letter a measure, of the classes of the cells: so many can be chosen from.
_LETTERS = "abcdefgh"

STYLE = (
    ".choice input { margin: 0 .3rem 0 0; } .choice label { margin-right: .9rem; } .choice .scale { display: none; }\n"
    + ".choice .matrix rect { fill: var(--none); }\n"
    + "".join(
        f".of-{letter}:checked ~ .chosen .scale-{letter} {{ display: block; }} "
        + " ".join(
            f".of-{letter}:checked ~ .chosen .{letter}{step} {{ fill: {colour}; }}"
            for step, colour in enumerate(RAMP, 1)
        )
        + "\n"
        for letter in _LETTERS
    )
)


def linear_levels(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Step of the heat map of every value, 1 to 9 in equal differences from the least to the most; 0 for NaN."""
    steps = np.zeros(values.shape, np.int64)
    there = np.isfinite(values)
    if there.any():
        low, high = values[there].min(), values[there].max()
        spread = high - low
        place = (values[there] - low) / spread if spread > 1e-9 else np.full(int(there.sum()), 0.5)
        steps[there] = 1 + np.minimum((place * len(RAMP)).astype(np.int64), len(RAMP) - 1)
    return steps


def heat_maps(
    key: str,
    names: Sequence[str],
    measures: Mapping[str, Mapping[Pair, float]],
    tip: Callable[[str, str], str],
    label: str,
) -> str:
    """measures: what it is called -> value by (source, target); a direction without one has no colour.

    key: of this picture among those of the page. tip: of a source and a target, the tooltip.
    """
    places = {name: place for place, name in enumerate(names)}
    buttons, scales = [], []
    steps: list[tuple[str, NDArray[np.int64]]] = []
    for number, (letter, (measure, values)) in enumerate(zip(_LETTERS, measures.items(), strict=False)):
        values_TS = np.full((len(names), len(names)), np.nan)
        for (source, target), value in values.items():
            values_TS[places[target], places[source]] = value
        steps_TS = linear_levels(values_TS)
        steps.append((letter, steps_TS))
        # The inputs stand before what they colour, as siblings: that is how a style finds the one that is chosen.
        identity = escape(f"{key}-{letter}")
        buttons.append(
            f'<input type="radio" name="{escape(key)}" id="{identity}" class="of-{letter}"'
            f'{" checked" if number == 0 else ""}><label for="{identity}">{escape(measure)}</label>'
        )
        scales.append(
            f'<div class="scale scale-{letter} soft keys">{keys(values_TS, steps_TS, lambda value: f"{value:.3g}")}'
            "</div>"
        )

    def look(target: int, source: int) -> str:
        return " ".join(f"{letter}{steps_TS[target, source]}" for letter, steps_TS in steps)

    picture = grid(names, look, lambda target, source: tip(names[source], names[target]), label)
    return f'<div class="choice">{"".join(buttons)}<div class="chosen">{picture}{"".join(scales)}</div></div>'
