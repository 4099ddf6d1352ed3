"""Read the scores of systems on the examples that all have: evaluated runs (or a model's seeds as one), baselines and
files of predictions."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from shards.errors import InputError, did_you_mean
from shards.languages import languages_in_corpus
from trainer.evaluation.baseline_names import LABELS
from trainer.evaluation.compare.comparable import check_references, check_scored_again, one_profile
from trainer.evaluation.compare.measure_names import SHORT, WITHOUT_WORDS
from trainer.evaluation.compare.split_scorer import ScoresOf, SplitScorer
from trainer.evaluation.foreign import is_foreign
from trainer.evaluation.predictions import Key, read_predictions, read_scores
from trainer.evaluation.scoring.similarity import SIMILARITY
from trainer.recipe.profiles import DEFAULT, FORMER, Profile

#: The measure that every example has where ROUGE is defined.
_SCORED = "rouge1"


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A model or a baseline.

    runs: directories of its evaluations, one a seed, or files of predictions.
    baseline: its name (trainer/evaluation/baseline_names.py); it has no runs.
    """

    name: str
    runs: tuple[Path, ...]
    baseline: str | None = None


def parse_systems(words: Sequence[str]) -> list[System]:
    """Parse RUN, or NAME=RUN,RUN,...; a run is called by its directory's name, by its path where two share one.

    A baseline is called by its name; a directory of that name is ./lead.
    """
    found: list[tuple[str | None, list[str]]] = []
    for word in words:
        name, equals, runs = word.partition("=")
        if not equals or Path(word).exists():
            found.append((None, [word]))
            continue
        named = [run for run in runs.split(",") if run]
        if not name or not named:
            raise InputError(f"{word}: name runs as RUN, or as NAME=RUN,RUN,...")
        if len(named) > 1 and (baselines := [run for run in named if run in LABELS]):
            raise InputError(f"{word}: {baselines[0]} is a baseline, not a run (a directory of that name is ./lead)")
        found.append((name, named))
    short = [_called(runs[0]) for name, runs in found if name is None]
    systems = [
        System(
            name=name or (_called(runs[0]) if len(set(short)) == len(short) else runs[0]),
            runs=() if runs[0] in LABELS else tuple(map(Path, runs)),
            baseline=runs[0] if runs[0] in LABELS else None,
        )
        for name, runs in found
    ]
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names)}: two have one name: call them NAME=RUN")
    return systems


def _called(run: str) -> str:
    if run in LABELS:
        return run
    path = Path(run)
    return path.stem if is_foreign(path) else path.resolve().name


@dataclass(frozen=True)
class Scores:
    """Scores of systems on the same examples.

    keys (N,): the examples that all systems have.  columns: system -> measure -> (N,), means over its runs.
    left_out: examples that not all have.
    baselines: those among the systems.  lead: LEAD's (N,) by measure; empty where it is not known.
    notes: lines on single systems.
    unscored: target language -> examples left out because not all systems have a sentence similarity there.
    profile: of ROUGE (trainer/recipe/profiles.py), None where no measure depends on it.
    without_rouge: examples whose reference has no word, or whose language no segmenter cuts.
    """

    names: tuple[str, ...]
    keys: tuple[Key, ...]
    columns: Mapping[str, Mapping[str, Sequence[float]]]
    left_out: int
    baselines: frozenset[str] = frozenset()
    lead: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unscored: Mapping[str, int] = field(default_factory=dict)
    profile: str | None = None
    without_rouge: int = 0

    @cached_property
    def stories(self) -> list[int]:
        """Return the number of each example's story, (N,)."""
        number = {story: place for place, story in enumerate(sorted({key[0] for key in self.keys}))}
        return [number[key[0]] for key in self.keys]

    def describe(self, split: str) -> str:
        """Return a line on the examples and the systems."""
        text = f"{len(self.keys):,} examples of {split}, {len(set(self.stories)):,} stories"
        if self.left_out:
            text += f" ({self.left_out:,} examples are not in all of them and left out)"
        if self.unscored:
            of = ", ".join(f"{language} {count:,}" for language, count in self.unscored.items())
            text += f", without those that {SHORT[SIMILARITY]} does not score ({of})"
        if self.without_rouge:
            text += f" ({self.without_rouge:,} examples have no ROUGE, without a word or a segmenter, and are left out)"
        if self.profile is not None:
            text += f"; ROUGE as {self.profile}"
        if self.lead and len(self.baselines) < len(self.names):
            text += "; ↓ below LEAD on the same examples"
        return "; ".join([text, *self.notes])


def read_systems(
    systems: Sequence[System],
    *,
    split: str,
    measures: Sequence[str],
    languages: Sequence[str] | None = None,
    corpus: str | None = None,
) -> Scores:
    """Return the scores of all systems.

    languages: names or codes that both sides of a direction must be of; None: any.
    corpus: of files of predictions; None: the first run's.

    `InputError` where an evaluation is missing, lacks a measure, or was scored by another profile of ROUGE, and where
    no example is common to all.
    """
    models = [system for system in systems if system.baseline is None]
    if not models:
        raise InputError("name a run or a file of predictions beside the baselines: they are scored on its examples")
    runs = [run for system in models for run in system.runs if not is_foreign(run)]
    notes: list[str] = []
    profile = None if WITHOUT_WORDS.issuperset(measures) else one_profile(runs, split)
    if len(runs) < sum(len(system.runs) or 1 for system in systems):
        check_scored_again(runs, split, profile)
    with SplitScorer(corpus, runs, split, DEFAULT if profile in (None, FORMER) else cast(Profile, profile)) as held_out:
        of_systems: dict[str, list[ScoresOf]] = {}
        for system in models:
            of_systems[system.name] = []
            for run in system.runs:
                if is_foreign(run):
                    scores, of_system = held_out.scores_of_file(run)
                    _check_measures(run, scores, measures, held_out.measures)
                    notes += [f"{system.name}: {one}" for one in of_system]
                else:
                    scores = _read(run, split, measures)
                of_systems[system.name].append(scores)
        if languages is not None:
            of_systems = _only(languages, of_systems)
        of_runs = [scores for of_system in of_systems.values() for scores in of_system]
        common = sorted(set.intersection(*(set(scores) for scores in of_runs)))
        if not common:
            names = ", ".join(str(run) for system in models for run in system.runs)
            raise InputError(f"{names} have no example of {split} in common: evaluate the same directions")
        check_references(runs, split, common)
        scored = [key for key in common if all(measure in one[key] for one in of_runs for measure in measures)]
        unscored = Counter(
            key[2] for key in common if SIMILARITY in measures and any(SIMILARITY not in one[key] for one in of_runs)
        )
        if not scored and unscored:
            raise InputError(f"{SIMILARITY} is scored in none of {', '.join(unscored)}: compare by other measures")
        if not scored:
            raise InputError(
                f"no example of {split} has {', '.join(measures)}: see what evaluation/{split}.json says of it"
            )
        for system in systems:
            if system.baseline is not None:
                scores, of_system = held_out.scores_of_baseline(system.baseline, scored, measures)
                of_systems[system.name] = [scores]
                notes += [f"{system.name}: {one}" for one in of_system]
        of_lead = next((of_systems[system.name][0] for system in systems if system.baseline == "lead"), None)
        if of_lead is None:
            of_lead = held_out.kept_baseline("lead", measures)
    columns = {
        system.name: {
            measure: [
                sum(scores[key][measure] for scores in of_systems[system.name]) / len(of_systems[system.name])
                for key in scored
            ]
            for measure in measures
        }
        for system in systems
    }
    lead = {
        measure: [of_lead[key][measure] for key in scored]
        for measure in measures
        if all(measure in of_lead.get(key, {}) for key in scored)
    }
    return Scores(
        names=tuple(system.name for system in systems),
        keys=tuple(scored),
        columns=columns,
        left_out=max(map(len, of_runs)) - len(common),
        baselines=frozenset(system.name for system in systems if system.baseline is not None),
        lead=lead,
        notes=tuple(notes),
        unscored=unscored,
        profile=profile,
        without_rouge=len(common) - len(scored) - unscored.total(),
    )


def read_texts(system: System, held_out: SplitScorer) -> tuple[dict[Key, str], list[str]]:
    """Return the summaries of a run or of a file of predictions, by example, and notes on it.

    `InputError` where the system is several runs or a baseline (`SplitScorer.texts_of_baseline`), or not evaluated.
    """
    if len(system.runs) != 1:
        raise InputError(f"{system.name} is {len(system.runs)} runs, which wrote different summaries: name one of them")
    [run] = system.runs
    if is_foreign(run):
        return held_out.texts_of_file(run)
    return {row.key: row.prediction for row in read_predictions(run, held_out.split)}, []


def _only(languages: Sequence[str], of_systems: Mapping[str, list[ScoresOf]]) -> dict[str, list[ScoresOf]]:
    """Return the scores of directions between these languages."""
    if not languages:
        raise InputError("--languages names none: leave it out, or give some like en,ru")
    present = sorted({side for runs in of_systems.values() for scores in runs for key in scores for side in key[1:]})
    wanted = set(languages_in_corpus(languages, present))
    return {
        name: [{key: row for key, row in scores.items() if wanted.issuperset(key[1:])} for scores in runs]
        for name, runs in of_systems.items()
    }


def by_direction(keys: Sequence[Key]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """Yield (source, target) and the places of its examples, sorted."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, (_, source, target) in enumerate(keys):
        found.setdefault((source, target), []).append(place)
    yield from sorted(found.items())


def _read(run: Path, split: str, measures: Sequence[str]) -> ScoresOf:
    """Return the scores of a run. Only an example without ROUGE may lack a measure."""
    scores = read_scores(run, split, [*measures, _SCORED])
    if not all(measure in row for row in scores.values() for measure in measures):
        _check_measures(run, scores, measures, set.intersection(*map(set, read_scores(run, split).values())))
    return scores


def _check_measures(run: Path, scores: ScoresOf, measures: Sequence[str], available: Collection[str]) -> None:
    """Raise `InputError` where predictions with ROUGE lack a measure. available: those that they have."""
    known = [row for row in scores.values() if _SCORED in row] or list(scores.values())
    for measure in measures:
        # Languages that the sentence encoder does not know have no similarity: they are left out, not refused.
        enough = any if measure == SIMILARITY else all
        if not enough(measure in row for row in known):
            near = did_you_mean(measure, sorted(available))
            known_here = ", ".join(sorted(available))
            raise InputError(f"{run} has no {measure}{near} for all of its predictions; it has {known_here}")
