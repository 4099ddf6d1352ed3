"""The layout of D2TV's Table 1: a block for each source language, in it a row for each system; a column a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.comparison.sheet import Cell, Part, Sheet, words
from trainer.evaluation.compare.significance import Tested, Tests
from trainer.evaluation.compare.systems import HIGHER_IS_BETTER, LOWER_IS_BETTER, SHORT, Scores, by_direction

#: The row and the column of means.
AVERAGE = "Avg."


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """cells: (source, target, system) -> an outcome a measure; `AVERAGE` as source or target is the mean of the
    directions' means there, as in the paper."""

    names: tuple[str, ...]
    measures: tuple[str, ...]
    languages: tuple[str, ...]
    cells: Mapping[tuple[str, str, str], tuple[Tested, ...]]
    note: str


def blocks(
    scores: Scores,
    *,
    split: str,
    baseline: str,
    measures: Sequence[str],
    samples: int,
    seed: int,
    languages: Sequence[str] | None = None,
) -> Blocks:
    """Every direction, and the means over targets, sources and all. languages: their order; None: sorted."""
    tests = Tests(scores, baseline, samples=samples, seed=seed)
    directions = dict(by_direction(scores.keys))
    numbers: dict[tuple[str, str, str], tuple[int, ...]] = {}

    def add(source: str, target: str, groups: Sequence[Sequence[int]]) -> None:
        places = [place for group in groups for place in group]
        # A direction counts once, however many examples it has.
        weights = [1 / len(group) for group in groups for _ in group] if len(groups) > 1 else None
        for name in scores.names:
            numbers[source, target, name] = tuple(tests.mean(name, measure, places, weights) for measure in measures)

    for (source, target), places in directions.items():
        add(source, target, [places])
    for place in (0, 1):
        for language in sorted({direction[place] for direction in directions}):
            of = [places for direction, places in directions.items() if direction[place] == language]
            add(*((language, AVERAGE) if place == 0 else (AVERAGE, language)), of)
    add(AVERAGE, AVERAGE, list(directions.values()))
    outcomes = tests.outcomes()
    there = {side for direction in directions for side in direction}
    note = scores.describe(split)
    if len(scores.names) > 1:
        note += f"; {tests.describe()}"
    return Blocks(
        names=scores.names,
        measures=tuple(measures),
        languages=tuple(language for language in (languages or sorted(there)) if language in there),
        cells={key: tuple(outcomes[number] for number in of) for key, of in numbers.items()},
        note=f"{note}. {AVERAGE}: every direction counts once",
    )


def as_sheet(found: Blocks, title: str) -> Sheet:
    """The table; the best of a block's column is bold, where there are several systems."""
    targets = [target for target in (*found.languages, AVERAGE) if (AVERAGE, target, found.names[0]) in found.cells]
    sources = [source for source in (*found.languages, AVERAGE) if (source, AVERAGE, found.names[0]) in found.cells]
    lines: list[tuple[Cell, ...]] = []
    rules: set[int] = set()
    for source in sources:
        rules.add(len(lines))
        for number, name in enumerate(found.names):
            label = (f"{source} →" if source != AVERAGE else AVERAGE) if number == 0 else ""
            lines.append((words(label), words(name), *(_cell(found, source, target, name) for target in targets)))
    measures = " / ".join(SHORT.get(measure, measure) for measure in found.measures)
    return Sheet(
        title=title,
        head=("source", "model", *targets),
        rows=tuple(lines),
        note=f"{measures}; {found.note}",
        labels=2,
        rules=frozenset(rules),
    )


def _cell(found: Blocks, source: str, target: str, name: str) -> Cell:
    outcomes = found.cells.get((source, target, name))
    if outcomes is None:
        return words("–")
    parts = []
    for place, one in enumerate(outcomes):
        rivals = [found.cells[source, target, other][place].mean for other in found.names]
        best = len(rivals) > 1 and _is_best(one.mean, rivals, found.measures[place])
        parts.append(Part(text=f"{one.mean:.2f}", mark=one.mark, best=best))
    return Cell(parts=tuple(parts), own=source == target != AVERAGE)


def _is_best(mean: float, of: Sequence[float], measure: str) -> bool:
    """As far as two digits show."""
    if measure in HIGHER_IS_BETTER:
        return round(mean, 2) == round(max(of), 2)
    return measure in LOWER_IS_BETTER and round(mean, 2) == round(min(of), 2)
