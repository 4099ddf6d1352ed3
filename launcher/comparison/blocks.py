"""Lay out scores as D2TV's Table 1: a block a source language, in it a row a system, and a column a target."""

from collections.abc import Mapping, Sequence

from launcher.pages.sheet import Cell, Part, Sheet, words
from trainer.evaluation.compare.measure_names import HIGHER_IS_BETTER, LOWER_IS_BETTER, SHORT
from trainer.evaluation.compare.significance import Tested, Tests
from trainer.evaluation.compare.systems import Scores, by_direction

#: The row and the column of means.
AVERAGE = "Avg."


def blocks(
    scores: Scores,
    title: str,
    *,
    split: str,
    baseline: str,
    measures: Sequence[str],
    samples: int,
    seed: int,
    languages: Sequence[str] | None = None,
) -> Sheet:
    """Test every direction, and the means of the directions' means over targets, sources and all.

    The best of a block's column is bold, where there are several systems.  languages: their order; None: sorted.
    """
    tests = Tests(scores, baseline, samples=samples, seed=seed)
    directions = dict(by_direction(scores.keys))
    numbers: dict[tuple[str, str], list[list[int]]] = {}

    def add(source: str, target: str, groups: Sequence[Sequence[int]]) -> None:
        indices = [index for group in groups for index in group]
        # A direction counts once, however many examples it has.
        weights = [1 / len(group) for group in groups for _ in group] if len(groups) > 1 else None
        numbers[source, target] = [
            [tests.mean(name, measure, indices, weights) for measure in measures] for name in scores.names
        ]

    for (source, target), indices in directions.items():
        add(source, target, [indices])
    for side in (0, 1):
        for language in sorted({direction[side] for direction in directions}):
            of = [indices for direction, indices in directions.items() if direction[side] == language]
            add(*((language, AVERAGE) if side == 0 else (AVERAGE, language)), of)
    add(AVERAGE, AVERAGE, list(directions.values()))
    outcomes = tests.outcomes()
    cells = {key: [[outcomes[number] for number in of] for of in found] for key, found in numbers.items()}
    order = [*(languages or sorted({side for direction in directions for side in direction})), AVERAGE]
    tested = f"; {tests.describe()}" if len(scores.names) > 1 else ""
    note = f"{' / '.join(SHORT.get(measure, measure) for measure in measures)}; {scores.describe(split)}{tested}"
    return _lay_out(scores.names, cells, order, measures, title, f"{note}. {AVERAGE}: every direction counts once")


def _lay_out(
    names: Sequence[str],
    cells: Mapping[tuple[str, str], list[list[Tested]]],
    order: Sequence[str],
    measures: Sequence[str],
    title: str,
    note: str,
) -> Sheet:
    """Arrange the cells: (source, target) -> an outcome by system and measure."""
    sources = [source for source in order if (source, AVERAGE) in cells]
    targets = [target for target in order if (AVERAGE, target) in cells]
    lines: list[tuple[Cell, ...]] = []
    for source in sources:
        for number, name in enumerate(names):
            label = (f"{source} →" if source != AVERAGE else AVERAGE) if number == 0 else ""
            of_row = (
                _cell(cells.get((source, target)), number, measures, source == target != AVERAGE) for target in targets
            )
            lines.append((words(label), words(name), *of_row))
    return Sheet(
        title=title,
        head=("source", "model", *targets),
        rows=tuple(lines),
        note=note,
        labels=2,
        rules=frozenset(range(0, len(lines), len(names))),
    )


def _cell(outcomes: list[list[Tested]] | None, number: int, measures: Sequence[str], own: bool) -> Cell:
    if outcomes is None:
        return words("–")
    parts = []
    for index, one in enumerate(outcomes[number]):
        rivals = [of[index].mean for of in outcomes]
        best = len(rivals) > 1 and _is_best(one.mean, rivals, measures[index])
        parts.append(Part(text=f"{one.mean:.2f}", mark=one.mark, best=best))
    return Cell(parts=tuple(parts), own=own)


def _is_best(mean: float, of: Sequence[float], measure: str) -> bool:
    # As far as two digits show.
    if measure in HIGHER_IS_BETTER:
        return round(mean, 2) == round(max(of), 2)
    return measure in LOWER_IS_BETTER and round(mean, 2) == round(min(of), 2)
