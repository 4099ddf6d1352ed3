"""Lay out systems side by side: a row a kind, target, source or direction."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from launcher.pages.sheet import Cell, Part, Sheet, words
from trainer.evaluation.compare.measure_names import SHORT
from trainer.evaluation.compare.significance import Tests
from trainer.evaluation.compare.systems import Scores
from trainer.evaluation.predictions import Key

By = Literal["kind", "target", "source", "direction"]


def rows(
    scores: Scores, *, split: str, by: By, baseline: str, measures: Sequence[str], samples: int, seed: int
) -> Sheet:
    """Test all systems against the baseline; every example counts alike."""
    tests = Tests(scores, baseline, samples=samples, seed=seed)
    groups = [
        (name, len(indices), [tests.mean(system, measure, indices) for measure in measures for system in scores.names])
        for name, indices in _groups(scores.keys, by)
    ]
    outcomes = tests.outcomes()
    columns = [(measure, name) for measure in measures for name in scores.names]
    lines, details = [], []
    for name, count, numbers in groups:
        found = [outcomes[number] for number in numbers]
        scored = [Cell(parts=(Part(text=f"{one.mean:.2f}", mark=one.mark),)) for one in found]
        lines.append((words(name), words(f"{count:,}"), *scored))
        for (measure, system), one in zip(columns, found, strict=True):
            if (d := one.difference) is not None:
                whole = (name, SHORT.get(measure, measure), system, f"{d.mean:+.2f}")
                details.append((*whole, f"{d.low:+.2f} to {d.high:+.2f}", f"{one.p:.3f}{one.mark}"))
    return Sheet(
        title=f"{', '.join(scores.names)} – d2tv compare",
        head=(by, "examples", *(f"{SHORT.get(measure, measure)} {name}" for measure, name in columns)),
        rows=tuple(lines),
        note=f"{scores.describe(split)}; {tests.describe()}",
        details=(
            f"Differences from {baseline}",
            (by, "measure", "run", "difference", "95% of resamples", "p, corrected"),
            tuple(details),
        ),
    )


def _groups(keys: Sequence[Key], by: By) -> Iterator[tuple[str, list[int]]]:
    name_of: Callable[[Key], str] = {
        "kind": lambda key: "MMS" if key[1] == key[2] else "MXLS",
        "target": lambda key: key[2],
        "source": lambda key: key[1],
        "direction": lambda key: f"{key[1]}>{key[2]}",
    }[by]
    groups: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(name_of(key), []).append(index)
    yield from sorted(groups.items())
    if len(groups) > 1:
        yield "all", list(range(len(keys)))
