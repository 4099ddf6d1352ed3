"""Show what annotators found: tables in the forms of `d2tv compare`, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from launcher.annotation.key import CRITERIA, SCALE, Key
from launcher.annotation.ratings import Ratings
from launcher.annotation.results import Agreed, Result, Results
from launcher.pages.sheet import Cell, Part, Sheet, words
from trainer.runs.words import decimals

#: As D2TV's Table 3 heads its columns.
_SHORT = {"fluency": "Flu.", "conciseness": "Con.", "informativeness": "Inf."}


def sheets(key: Key, found: Sequence[Ratings], results: Results) -> list[Sheet]:
    """Return the means (D2TV's Table 3), the agreement, and how much of the page each annotator has rated."""
    return [_means(key, results), _agreement(results), _annotators(key, found)]


def _means(key: Key, results: Results) -> Sheet:
    table = {(one.group, one.system, one.criterion): one for one in results.results}
    groups = list(dict.fromkeys(one.group for one in results.results))
    rows: list[tuple[Cell, ...]] = []
    rules: set[int] = set()
    for group in groups:
        rules.add(len(rows))
        best = {name: _best([table[group, system, name] for system in key.systems]) for name in CRITERIA}
        for index, system in enumerate(key.systems):
            of = [table[group, system, name] for name in CRITERIA]
            made, missing = sum(one.ratings for one in of), sum(one.missing for one in of)
            rows.append(
                (
                    words(group if index == 0 else ""),
                    words(system),
                    *(_cell(one, best[one.criterion]) for one in of),
                    words(f"{made:,}" + (f" of {made + missing:,}" if missing else "")),
                )
            )
    short = ", ".join(f"{_SHORT[name]} {name}" for name in CRITERIA)
    note = (
        f"{short}: means of ratings from {SCALE[0]} (worst) to {SCALE[-1]} (best), of {len(key.items)} examples of "
        f"{key.split}, {len({item.story for item in key.items.values()})} stories"
    )
    if missing := sum(one.missing for one in results.results if one.group == groups[-1]):
        note += f"; {missing:,} ratings are missing: means and tests are of what is there"
    if results.tests is not None:
        note += f"; {results.tests}"
    return Sheet(
        title="means",
        head=("examples", "system", *(_SHORT[name] for name in CRITERIA), "ratings"),
        rows=tuple(rows),
        note=note,
        labels=2,
        rules=frozenset(rules),
    )


def _best(of: Sequence[Result]) -> float | None:
    """Return the highest mean in two digits; None where all are equal."""
    means = {round(one.mean, 2) for one in of if one.mean is not None}
    return max(means) if len(means) > 1 else None


def _cell(one: Result, best: float | None) -> Cell:
    if one.mean is None:
        return words("–")
    return Cell(parts=(Part(text=f"{one.mean:.2f}", mark=one.mark, best=round(one.mean, 2) == best),))


def _agreement(results: Results) -> Sheet:
    rows = []
    for one in results.agreement:
        of = (None, None, None) if one.of is None else (one.of.kappa, one.of.observed, one.of.expected)
        cells = (one.criterion, *(decimals(value, 2) for value in of), f"{one.summaries:,}", f"{one.left_out:,}")
        rows.append(tuple(words(cell) for cell in cells))
    some = results.agreement[0]
    people = f"{some.annotators} annotator{'s' if some.annotators != 1 else ''}"
    note = f"Fleiss' kappa (1971) of {people}, {len(SCALE)} categories without order"
    undefined = [f"{one.criterion} {why}" for one in results.agreement if (why := _undefined(one))]
    if some.annotators < 2:
        note += "; it is of two annotators or more"
    elif undefined:
        note += "; " + "; ".join(undefined)
    if any(one.left_out for one in results.agreement):
        note += "; left out: summaries that not all of them have rated"
    return Sheet(
        title="agreement",
        head=("criterion", "kappa", "observed", "by chance", "summaries", "left out"),
        rows=tuple(rows),
        note=note,
    )


def _undefined(one: Agreed) -> str | None:
    """Say why there is no kappa; None where there is one."""
    if one.of is None:
        return "has no summary that all of them rated"
    return "has one value alone, of which chance explains all" if one.of.kappa is None else None


def _annotators(key: Key, found: Sequence[Ratings]) -> Sheet:
    total = len(key.summaries) * len(CRITERIA)
    rows = [(one.annotator, f"{len(one.values):,}", f"{total - len(one.values):,}", str(one.path)) for one in found]
    return Sheet(
        title="annotators",
        head=("annotator", "ratings", "missing", "file"),
        rows=tuple(tuple(words(cell) for cell in row) for row in rows),
        note=f"page {key.page}: {len(key.summaries):,} summaries",
    )


def as_json(key: Key, found: Sequence[Ratings], results: Results, *, baseline: str) -> dict[str, Any]:
    """Return all numbers of the results."""
    total = len(key.summaries) * len(CRITERIA)
    return {
        "page": key.page,
        "split": key.split,
        "examples": len(key.items),
        "systems": key.systems,
        "baseline": baseline,
        "scale": list(SCALE),
        "annotators": [
            {
                "annotator": one.annotator,
                "file": str(one.path),
                "ratings": len(one.values),
                "missing": total - len(one.values),
            }
            for one in found
        ],
        "results": [asdict(one) for one in results.results],
        "agreement": [{**asdict(one), "categories": len(SCALE)} for one in results.agreement],
        "tests": results.tests,
    }
