"""Compare evaluations side by side, with marks where a difference is no chance: `d2tv compare`."""

from collections.abc import Sequence
from typing import Literal

from launcher.comparison.blocks import blocks
from launcher.comparison.rows import By, rows
from launcher.pages.sheet import Sheet
from shards.errors import InputError, did_you_mean
from shards.languages import language_name
from trainer.evaluation.compare.systems import System, read_systems


def compare(
    systems: Sequence[System],
    *,
    split: str,
    by: By | Literal["blocks"],
    languages: Sequence[str] | None,
    baseline: str | None,
    measures: Sequence[str],
    samples: int,
    seed: int,
    corpus: str | None = None,
) -> Sheet:
    """Return the table of a comparison. Raises `InputError` where the runs cannot be compared.

    languages: of both sides of a direction; None: any.
    baseline: a name; None: the first. corpus: of files of predictions.
    """
    if len(systems) < 2 and by != "blocks":
        raise InputError("name at least two runs, the first is what the others are compared with; or --by blocks")
    if seed < 0:
        raise InputError(f"--seed {seed}: at least 0")
    names = [system.name for system in systems]
    if baseline is not None and baseline not in names:
        raise InputError(f"--baseline {baseline}: no such run{did_you_mean(baseline, names)}: {', '.join(names)}")
    scores = read_systems(systems, split=split, measures=measures, languages=languages, corpus=corpus)
    baseline = baseline or names[0]
    if by != "blocks":
        return rows(scores, split=split, by=by, baseline=baseline, measures=measures, samples=samples, seed=seed)
    order = None if languages is None else list(dict.fromkeys(language_name(word) for word in languages))
    return blocks(
        scores,
        f"{', '.join(names)} – d2tv compare",
        split=split,
        baseline=baseline,
        measures=measures,
        samples=samples,
        seed=seed,
        languages=order,
    )
