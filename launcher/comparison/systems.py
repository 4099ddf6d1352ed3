"""What is compared: evaluated runs, or several runs of one model (its seeds) as one, on the examples that all have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shards.errors import InputError, did_you_mean
from shards.languages import languages_in_corpus
from trainer.evaluation.predictions import Key, read_facts, read_scores
from trainer.evaluation.scoring.profiles import DEFAULT, FORMER, PROFILES, WITHOUT_WORDS, profile_of

#: As tables call the measures.
SHORT = {"rouge1": "R-1", "rouge2": "R-2", "rougeL": "R-L", "rougeLsum": "R-Lsum", "bertscore": "BERTScore"}


#: What every example has that can be scored by words.
_SCORED = "rouge1"
_FORMER = " (an earlier release's)"

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

    left_out: examples that not all have.  profile: of ROUGE (trainer/evaluation/scoring/profiles.py), None where no
    measure depends on it.  without_rouge: examples whose reference has no word, or whose language no segmenter cuts.
    """

    names: tuple[str, ...]
    keys: tuple[Key, ...]
    columns: Mapping[str, Mapping[str, Sequence[float]]]
    left_out: int
    profile: str | None = None
    without_rouge: int = 0

    @cached_property
    def stories(self) -> list[int]:
        """The number of each example's story, (N,)."""
        number = {story: place for place, story in enumerate(sorted({key[0] for key in self.keys}))}
        return [number[key[0]] for key in self.keys]

    def describe(self, split: str) -> str:
        told = f"{len(self.keys):,} examples of {split}, {len(set(self.stories)):,} stories"
        if self.left_out:
            told += f" ({self.left_out:,} examples are not in all of them and left out)"
        if self.without_rouge:
            told += f" ({self.without_rouge:,} examples have no ROUGE, without a word or a segmenter, and are left out)"
        if self.profile is not None:
            told += f"; ROUGE as {self.profile}"
        return told


def read_systems(
    systems: Sequence[System], *, split: str, measures: Sequence[str], languages: Sequence[str] | None = None
) -> Scores:
    """The scores of all systems. languages: names or codes that both sides of a direction must be of; None: any.

    `InputError` where an evaluation is not there, lacks a measure, or no example is common to all, and where their
    words were counted by different profiles.
    """
    profile = None if WITHOUT_WORDS.issuperset(measures) else _profile(systems, split)
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
    if not common:
        names = ", ".join(str(run) for system in systems for run in system.runs)
        raise InputError(f"{names} have no example of {split} in common: evaluate the same directions")
    keys = [key for key in common if all(measure in scores[key] for scores in of_runs for measure in measures)]
    if not keys:
        raise InputError(
            f"no example of {split} has {', '.join(measures)}: see what evaluation/{split}.json says of it"
        )
    columns = {
        system.name: {
            measure: [sum(scores[key][measure] for scores in runs) / len(runs) for key in keys] for measure in measures
        }
        for system, runs in zip(systems, of_systems, strict=True)
    }
    return Scores(
        names=tuple(system.name for system in systems),
        keys=tuple(keys),
        columns=columns,
        left_out=max(map(len, of_runs)) - len(common),
        profile=profile,
        without_rouge=len(common) - len(keys),
    )


def by_direction(keys: Sequence[Key]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """(source, target) -> the places of its examples, sorted."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, (_, source, target) in enumerate(keys):
        found.setdefault((source, target), []).append(place)
    yield from sorted(found.items())


def _profile(systems: Sequence[System], split: str) -> str:
    """Return the profile of all runs. `InputError` where they have several."""
    found = {run: profile_of(read_facts(run, split)) for system in systems for run in system.runs}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    wanted = next(profile for profile in (*found.values(), DEFAULT) if profile in PROFILES)
    other, run = next((profile, run) for run, profile in found.items() if profile != wanted)
    like = next((run for run, profile in found.items() if profile == wanted), None)
    of = run.parent.parent if run.parent.name == "evaluation" else run
    raise InputError(
        f"{run} was scored by ROUGE's profile {other}{_FORMER if other == FORMER else ''}, {like} by {wanted}, and the "
        f"two do not compare: d2tv evaluate {of} --split {split} evaluation.rouge={wanted}"
    )


def _read(run: Path, split: str, measures: Sequence[str]) -> Mapping[Key, Mapping[str, float]]:
    """The scores of a run. What cannot be scored by words (no rouge1) may lack a measure, and nothing else may."""
    scores = read_scores(run, split, [*measures, _SCORED])
    known = [row for row in scores.values() if _SCORED in row] or list(scores.values())
    for measure in measures:
        if not all(measure in row for row in known):
            there = set.intersection(*map(set, read_scores(run, split).values()))
            near = did_you_mean(measure, sorted(there))
            raise InputError(
                f"{run} has no {measure}{near} for all of its predictions; it has {', '.join(sorted(there))}"
            )
    return scores
