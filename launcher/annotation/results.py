"""Work out what annotators found: means, what differs by more than chance, and how far they agree."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from launcher.annotation.key import CRITERIA, SCALE, Key
from launcher.annotation.ratings import Ratings
from trainer.evaluation.agreement import Agreement, fleiss_kappa
from trainer.evaluation.bootstrap import Difference
from trainer.evaluation.compare.significance import Tests
from trainer.evaluation.compare.systems import Scores, by_direction

#: With more directions, those within a language and those across are shown instead.
_DIRECTIONS = 8
ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A system's ratings for one criterion in one group of examples.

    mean: of all its ratings; None where there is none. ratings: how many; missing: how many are not there.
    pairs: ratings by annotators who rated the baseline's summary of that example as well, which the test is of.
    difference: from the baseline on these; None for the baseline itself, and where there is no pair. p: corrected.
    """

    group: str
    system: str
    criterion: str
    mean: float | None
    ratings: int
    missing: int
    pairs: int
    difference: Difference | None = None
    p: float = 1.0
    mark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreed:
    """Agreement on one criterion. summaries: those that all `annotators` rated, which it is of; left_out: the others.

    of: None where no two annotators rated the same.
    """

    criterion: str
    annotators: int
    summaries: int
    left_out: int
    of: Agreement | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """results: a group at a time, in it a system at a time. tests: what the marks mean; None with one system."""

    results: tuple[Result, ...]
    agreement: tuple[Agreed, ...]
    tests: str | None


def work_out(key: Key, found: Sequence[Ratings], *, baseline: str, samples: int, seed: int) -> Results:
    """Return the results of all systems, tested against the baseline by paired bootstrap over stories.

    A pair is one annotator's ratings of two systems' summaries of one example: what is missing on either side leaves
    the pair out, so a severe annotator's half-filled file harms no system.
    """
    scores = _scores(key, found)
    tests = Tests(scores, baseline, samples=samples, seed=seed)
    columns = scores.columns
    drafts: list[tuple[Result, int | None]] = []
    for group, indices in _groups(scores):
        for system in key.systems:
            for criterion in CRITERIA:
                rated = [value for index in indices if not math.isnan(value := columns[system][criterion][index])]
                sides = columns[system][criterion], columns[baseline][criterion]
                both = [index for index in indices if not any(math.isnan(side[index]) for side in sides)]
                draft = Result(
                    group=group,
                    system=system,
                    criterion=criterion,
                    mean=sum(rated) / len(rated) if rated else None,
                    ratings=len(rated),
                    missing=len(indices) - len(rated),
                    pairs=len(both),
                )
                drafts.append((draft, tests.mean(system, criterion, both) if both else None))
    outcomes = tests.outcomes()
    results = []
    for draft, number in drafts:
        if number is None:
            results.append(draft)
        else:
            of = outcomes[number]
            results.append(replace(draft, difference=of.difference, p=of.p, mark=of.mark))
    return Results(
        results=tuple(results),
        agreement=tuple(_agreed(key, found, criterion) for criterion in CRITERIA),
        tests=tests.describe() if tests.count else None,
    )


def _scores(key: Key, found: Sequence[Ratings]) -> Scores:
    """Return a row an example and annotator; NaN where nothing is rated."""
    columns: dict[str, dict[str, list[float]]] = {
        system: {criterion: [] for criterion in CRITERIA} for system in key.systems
    }
    keys = []
    for ratings in found:
        for number, item in key.items.items():
            keys.append((item.story, item.source, item.target))
            for letter, systems in item.summaries.items():
                for criterion in CRITERIA:
                    value = float(ratings.values.get((number, letter, criterion), math.nan))
                    for system in systems:
                        columns[system][criterion].append(value)
    return Scores(names=tuple(key.systems), keys=tuple(keys), columns=columns, left_out=0)


def _groups(scores: Scores) -> Iterator[tuple[str, list[int]]]:
    directions = [(f"{source} → {target}", indices) for (source, target), indices in by_direction(scores.keys)]
    if len(directions) > _DIRECTIONS:
        kinds = {"within a language": True, "across languages": False}
        directions = [
            (name, [index for index, key in enumerate(scores.keys) if (key[1] == key[2]) is own])
            for name, own in kinds.items()
        ]
        directions = [(name, indices) for name, indices in directions if indices]
    yield from directions
    if len(directions) > 1:
        yield ALL, list(range(len(scores.keys)))


def _agreed(key: Key, found: Sequence[Ratings], criterion: str) -> Agreed:
    """Measure agreement on the summaries that all annotators rated; those who rated nothing at all are none."""
    annotators = [ratings.values for ratings in found if ratings.values]
    rows = []
    for item, letter in key.summaries:
        given = Counter(values.get((item, letter, criterion)) for values in annotators)
        if None not in given:
            rows.append([given[value] for value in SCALE])
    agreed = bool(rows) and len(annotators) > 1
    return Agreed(
        criterion=criterion,
        annotators=len(annotators),
        summaries=len(rows),
        left_out=len(key.summaries) - len(rows),
        of=fleiss_kappa(np.array(rows, np.int64)) if agreed else None,
    )
