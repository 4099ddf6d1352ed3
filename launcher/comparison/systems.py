"""What is compared: evaluated runs, or several runs of one model (its seeds) as one, on the examples that all have."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from shards.errors import InputError, did_you_mean
from shards.languages import languages_in_corpus
from trainer.evaluation.predictions import Key, read_scores
from trainer.evaluation.scoring.similarity import SIMILARITY

#: As tables call the measures.
SHORT = {
    "rouge1": "R-1",
    "rouge2": "R-2",
    "rougeL": "R-L",
    "rougeLsum": "R-Lsum",
    "bertscore": "BERTScore",
    SIMILARITY: "USE",
}

#: Measures of which the lowest is the best; of the rest beside these nobody can say.
LOWER_IS_BETTER = frozenset({"wrong_language", "repetition1", "repetition2"})
HIGHER_IS_BETTER = frozenset({*SHORT, "meaning_similarity", "lase", "language_confidence", "length_penalty"})


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A model. runs: where its evaluations lie, one a seed."""

    name: str
    runs: tuple[Path, ...]


def parse_systems(words: Sequence[str]) -> list[System]:
    """RUN, or NAME=RUN,RUN,...; a run is called by its directory's name, by its path where two share one."""
    found: list[tuple[str | None, tuple[Path, ...]]] = []
    for word in words:
        name, equals, runs = word.partition("=")
        if not equals or Path(word).exists():
            found.append((None, (Path(word),)))
            continue
        paths = tuple(Path(run) for run in runs.split(",") if run)
        if not name or not paths:
            raise InputError(f"{word}: name runs as RUN, or as NAME=RUN,RUN,...")
        found.append((name, paths))
    short = [runs[0].resolve().name for name, runs in found if name is None]
    systems = [
        System(name=name or (runs[0].resolve().name if len(set(short)) == len(short) else str(runs[0])), runs=runs)
        for name, runs in found
    ]
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names)}: two have one name: call them NAME=RUN")
    return systems


@dataclass(frozen=True)
class Scores:
    """keys (N,): the examples that all systems have.  columns: system -> measure -> (N,), means over its runs.

    left_out: examples that not all have.  unscored: target language -> examples left out because not all
    systems have a sentence similarity there.
    """

    names: tuple[str, ...]
    keys: tuple[Key, ...]
    columns: Mapping[str, Mapping[str, Sequence[float]]]
    left_out: int
    unscored: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def stories(self) -> list[int]:
        """The number of each example's story, (N,)."""
        number = {story: place for place, story in enumerate(sorted({key[0] for key in self.keys}))}
        return [number[key[0]] for key in self.keys]

    def describe(self, split: str) -> str:
        told = f"{len(self.keys):,} examples of {split}, {len(set(self.stories)):,} stories"
        if self.left_out:
            told += f" ({self.left_out:,} examples are not in all of them and left out)"
        if self.unscored:
            of = ", ".join(f"{language} {count:,}" for language, count in self.unscored.items())
            told += f", without those that {SHORT[SIMILARITY]} does not score ({of})"
        return told


def read_systems(
    systems: Sequence[System], *, split: str, measures: Sequence[str], languages: Sequence[str] | None = None
) -> Scores:
    """The scores of all systems. languages: names or codes that both sides of a direction must be of; None: any.

    `InputError` where an evaluation is not there, lacks a measure, or no example is common to all.
    """
    of_systems = [[_read(run, split, measures) for run in system.runs] for system in systems]
    of_runs = [scores for runs in of_systems for scores in runs]
    if languages is not None:
        if not languages:
            raise InputError("--languages names none: leave it out, or give some like en,ru")
        there = sorted({side for scores in of_runs for key in scores for side in key[1:]})
        wanted = set(languages_in_corpus(languages, there))
        of_systems = [
            [{key: row for key, row in scores.items() if wanted.issuperset(key[1:])} for scores in runs]
            for runs in of_systems
        ]
        of_runs = [scores for runs in of_systems for scores in runs]
    common = sorted(set.intersection(*(set(scores) for scores in of_runs)))
    scored = [key for key in common if SIMILARITY not in measures or all(SIMILARITY in one[key] for one in of_runs)]
    unscored = Counter(key[2] for key in sorted(set(common) - set(scored)))
    if not common:
        names = ", ".join(str(run) for system in systems for run in system.runs)
        raise InputError(f"{names} have no example of {split} in common: evaluate the same directions")
    if not scored:
        raise InputError(f"{SIMILARITY} is scored in none of {', '.join(unscored)}: compare by other measures")
    columns = {
        system.name: {
            measure: [sum(scores[key][measure] for scores in runs) / len(runs) for key in scored]
            for measure in measures
        }
        for system, runs in zip(systems, of_systems, strict=True)
    }
    return Scores(
        names=tuple(system.name for system in systems),
        keys=tuple(scored),
        columns=columns,
        left_out=max(map(len, of_runs)) - len(common),
        unscored=unscored,
    )


def by_direction(keys: Sequence[Key]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """(source, target) -> the places of its examples, sorted."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, (_, source, target) in enumerate(keys):
        found.setdefault((source, target), []).append(place)
    yield from sorted(found.items())


def _read(run: Path, split: str, measures: Sequence[str]) -> Mapping[Key, Mapping[str, float]]:
    scores = read_scores(run, split, measures)
    for measure in measures:
        # Languages that the sentence encoder does not know have no similarity: they are left out, not refused.
        enough = any if measure == SIMILARITY else all
        if not enough(measure in row for row in scores.values()):
            there = set.intersection(*map(set, read_scores(run, split).values()))
            near = did_you_mean(measure, sorted(there))
            raise InputError(
                f"{run} has no {measure}{near} for all of its predictions; it has {', '.join(sorted(there))}"
            )
    return scores
