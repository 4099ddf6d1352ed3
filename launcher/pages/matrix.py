"""Draw numbers of directions as heat maps: rows are target languages, columns source languages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.pages.colours import LETTERS, RAMP, levels, linear_levels

#: More languages than this are not drawn.
DRAWN = 100

Pair = tuple[str, str]  # (source, target) by name
Values = NDArray[np.float64] | NDArray[np.int64]


def heat_map(
    names: Sequence[str], values_TS: Values, tip: Callable[[int, int], str], label: str, spell: Callable[[float], str]
) -> dict[str, Any]:
    """Colour (L, L) values by [target, source] in equal ratios for the macro `heat_map` of parts.html.jinja.

    A value that is not above 0 has no colour.  tip: of (target, source). spell: a value in the legend.
    """
    steps_TS = levels(values_TS)
    cells = _cells(len(names), lambda target, source: f"s{steps_TS[target, source]}", tip)
    return {"names": names, "label": label, "cells": cells, "scale": _scale(values_TS, steps_TS, spell), "choices": ()}


def heat_maps(
    key: str,
    names: Sequence[str],
    measures: Mapping[str, Mapping[Pair, float]],
    tip: Callable[[str, str], str],
    label: str,
) -> dict[str, Any]:
    """Colour directions by one of several measures, in equal differences; a direction without a value has no colour.

    key: of this picture among those of the page.  measures: name -> value by direction. tip: of (source, target).
    """
    choices, steps = [], []
    for letter, (measure, values) in zip(LETTERS, measures.items(), strict=False):
        values_TS = by_pair(names, values, np.nan)
        steps.append((letter, linear_levels(values_TS)))
        scale = _scale(values_TS, steps[-1][1], lambda value: f"{value:.3g}")
        choices.append({"letter": letter, "name": measure, "scale": scale})
    cells = _cells(
        len(names),
        lambda target, source: " ".join(f"{letter}{steps_TS[target, source]}" for letter, steps_TS in steps),
        lambda target, source: tip(names[source], names[target]),
    )
    return {"names": names, "label": label, "cells": cells, "scale": (), "key": key, "choices": choices}


def square(title: str, values_NN: NDArray[np.float64], tip: Callable[[int, int], str]) -> dict[str, Any]:
    """Colour (N, N) values in equal differences for the macro `square` of parts.html.jinja.  tip: of (row, column)."""
    size, steps_NN = len(values_NN), linear_levels(values_NN)
    return {
        "title": title,
        "cell": min(16, 400 // size),
        "cells": _cells(size, lambda row, column: f"s{steps_NN[row, column]}", tip),
        "scale": _scale(values_NN, steps_NN, lambda value: f"{value:.3f}"),
    }


def by_pair(names: Sequence[str], values: Mapping[Pair, float], missing: float) -> NDArray[np.float64]:
    """Return the values (L, L) by [target, source] in the order of `names`."""
    return np.array([[values.get((source, target), missing) for source in names] for target in names], np.float64)


def _cells(count: int, look: Callable[[int, int], str], tip: Callable[[int, int], str]) -> list[list[tuple[str, str]]]:
    indices = range(count)
    return [[(look(target, source), tip(target, source)) for source in indices] for target in indices]


def _scale(values: Values, steps: NDArray[np.int64], spell: Callable[[float], str]) -> list[tuple[int, str]]:
    """Return (step, its range) of each step that occurs."""
    keys = []
    for step in range(1, len(RAMP) + 1):
        if (of_step := values[steps == step]).size:
            low, high = spell(float(of_step.min())), spell(float(of_step.max()))
            keys.append((step, low if low == high else f"{low} – {high}"))
    return keys
