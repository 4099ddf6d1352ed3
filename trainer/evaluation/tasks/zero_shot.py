"""Tell languages that a run was trained on from the others, which a task measures zero-shot."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shards.directions import parse_directions
from trainer.recipe import Recipe


def trained_targets(recipe: Recipe, languages: Sequence[str]) -> set[str]:
    """Return those of `languages` that any of the recipe's mixtures draws summaries in."""
    return {
        languages[target]
        for mixture in (recipe.mixture, *recipe.mixture.changes)
        for _, target in parse_directions(mixture.directions, languages, mixture.languages)
    }


def zero_shot_means(
    by_language: Mapping[str, Mapping[str, Any]],
    trained_on: set[str],
    figures: Sequence[str],
    mean: Callable[[Sequence[Any]], Any],
) -> dict[str, Any]:
    """Return the parts `trained` (the languages) and `means` of a report.

    means: how many `languages`, and the `mean` of each figure over them, those that were `trained` on and the
    `zero_shot` others; a kind of none is left out.
    """
    kinds = {
        "trained": [of for language, of in by_language.items() if language in trained_on],
        "zero_shot": [of for language, of in by_language.items() if language not in trained_on],
    }
    return {
        "trained": sorted(trained_on & by_language.keys()),
        "means": {
            kind: {"languages": len(of), **{figure: mean([one[figure] for one in of]) for figure in figures}}
            for kind, of in kinds.items()
            if of
        },
    }


def mean_figures(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over rows that have the same, for `zero_shot_means`."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
