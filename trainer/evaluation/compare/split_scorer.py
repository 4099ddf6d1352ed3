"""Score files of predictions, and baselines, for a comparison with evaluated runs.

A baseline's scores are kept beside every evaluation. Without them (an earlier release's, or files alone) they are
computed from the corpus, which is opened when it is first needed.
"""

import functools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from shards.batch.reader import Reader, ReaderConfig
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.stores import open_storage
from trainer.evaluation.baseline_names import describe_lead
from trainer.evaluation.baselines.compute import Baselines, Example, as_rows, compute
from trainer.evaluation.foreign import Foreign, match, read_foreign
from trainer.evaluation.predictions import Key, Prediction, predictions_path, read_facts, read_predictions, read_scores
from trainer.evaluation.scoring.measures import MEASURES, Pair
from trainer.evaluation.scoring.score import score
from trainer.recipe import load_recipe
from trainer.recipe.profiles import DEFAULT, Profile

ScoresOf = Mapping[Key, Mapping[str, float]]


class SplitScorer:
    """Score on the held-out examples of a split, in a `with` block.

    location: of the corpus; None: that of the recipe of the first of `runs` that has one.  profile: of ROUGE.
    """

    #: The measures of predictions that are scored here.
    measures = MEASURES

    def __init__(self, location: str | None, runs: Sequence[Path], split: str, profile: Profile = DEFAULT) -> None:
        self._location, self._runs, self.split = location, runs, split
        self._profile = profile
        self._score = functools.partial(score, profile=profile)
        self._opened: Reader | None = None

    def __enter__(self) -> "SplitScorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.close()

    @cached_property
    def corpus(self) -> Corpus:
        """Return the corpus. `InputError` where none is named, or where the runs were evaluated on another."""
        location = self._location
        if location is None:
            recipes = [path for run in self._runs if (path := recipe_of(run)) is not None]
            if not recipes:
                raise InputError("name the corpus that the predictions are of by --corpus DIR")
            location = load_recipe(str(recipes[0])).corpus.path
        corpus = open_corpus(location)
        for run in self._runs:
            facts = read_facts(run, self.split)
            known = facts.get("corpus") if isinstance(facts, dict) else None
            if known not in (None, corpus.content_hash):
                raise InputError(f"{location} is not the corpus that {run} was evaluated on: name that by --corpus DIR")
        return corpus

    @cached_property
    def reader(self) -> Reader:
        self._opened = Reader(self.corpus, ReaderConfig(io_threads=0), open_storage(self.corpus))
        return self._opened

    def _matched(self, path: Path) -> tuple[Foreign, list[Pair]]:
        lines, _ = read_foreign(path)
        found = match(lines, self.corpus, self.reader, self.split, path)
        return found, found.pairs(self.corpus, self.reader)

    def scores_of_file(self, path: Path) -> tuple[ScoresOf, list[str]]:
        """Return the scores of a file's predictions, and lines on what was left out. `InputError` as from `match`."""
        found, pairs = self._matched(path)
        return _by_key(as_rows(found.examples, pairs, self._score(pairs))), found.describe()

    def texts_of_file(self, path: Path) -> tuple[dict[Key, str], list[str]]:
        """Return a file's predictions, and lines on what was left out. `InputError` as from `match`."""
        found, pairs = self._matched(path)
        keys = [(one.story, pair.source, pair.target) for one, pair in zip(found.examples, pairs, strict=True)]
        return dict(zip(keys, found.predictions, strict=True)), found.describe()

    def texts_of_baseline(self, name: str, keys: Sequence[Key]) -> dict[Key, str]:
        """Return a baseline's summaries of these examples, as kept beside a run or computed."""
        for run in self._runs:
            if predictions_path(run, self.split, name).is_file():
                kept = {row.key: row.prediction for row in read_predictions(run, self.split, name)}
                if kept.keys() >= set(keys):
                    return kept
        found = compute(
            self.corpus, self.reader, self._examples(keys), self._score, profile=self._profile, names=(name,)
        )
        return {row.key: row.prediction for row in found.rows[name]}

    def kept_baseline(self, name: str, measures: Sequence[str]) -> dict[Key, Mapping[str, float]]:
        """Return the scores of a baseline that are kept beside the runs."""
        found: dict[Key, Mapping[str, float]] = {}
        for run in self._runs:
            if predictions_path(run, self.split, name).is_file():
                found = dict(read_scores(run, self.split, measures, name)) | found
        return found

    def scores_of_baseline(self, name: str, keys: Sequence[Key], measures: Sequence[str]) -> tuple[ScoresOf, list[str]]:
        """Return the scores of a baseline on these examples, kept or computed, and notes on it."""
        kept = self.kept_baseline(name, measures)
        if all(measure in kept.get(key, {}) for key in keys for measure in measures):
            return kept, self._kept_notes(name)
        if unknown := [measure for measure in measures if measure not in MEASURES]:
            raise InputError(f"{name} has no {unknown[0]}: evaluate the runs again with the model that scores it")
        found = compute(
            self.corpus, self.reader, self._examples(keys), self._score, profile=self._profile, names=(name,)
        )
        return _by_key(found.rows[name]), _notes(name, found)

    def _kept_notes(self, name: str) -> list[str]:
        """Return the notes on a baseline that is kept beside the runs."""
        if name != "lead":
            return []
        run = next(run for run in self._runs if predictions_path(run, self.split, name).is_file())
        facts = read_facts(run, self.split, name)
        words = facts.get("words") if isinstance(facts, dict) else None
        return [describe_lead(words)] if isinstance(words, dict) else []

    def _examples(self, keys: Sequence[Key]) -> list[Example]:
        """Return the rows of examples. `InputError` for one that the corpus does not have."""
        row_of = self.corpus.article_rows({key for key, _, _ in keys})
        found = []
        for number, (key, source, target) in enumerate(keys):
            sides = row_of.get((key, source)), row_of.get((key, target))
            if sides[0] is None or sides[1] is None:
                raise InputError(
                    f"{self.corpus.location} has no story {key} from {source} to {target}: name the right --corpus"
                )
            found.append(Example(number=number, story=key, source=sides[0], target=sides[1]))
        return found


def recipe_of(run: Path) -> Path | None:
    """Return the recipe of a run, of an exported model, or of the run that holds an evaluation."""
    whole = run.resolve()
    places = [run, whole.parent.parent] if whole.parent.name == "evaluation" else [run]
    for place in places:
        of_checkpoints = sorted(place.glob("checkpoints/step-*/recipe.yaml"), reverse=True)
        for path in (place / "recipe.yaml", *of_checkpoints):
            if path.is_file():
                return path
    return None


def _by_key(rows: Sequence[Prediction]) -> dict[Key, dict[str, float]]:
    return {row.key: {measure: value for measure, value in row.scores.items() if value is not None} for row in rows}


def _notes(name: str, found: Baselines) -> list[str]:
    if name == "lead":
        return [describe_lead(found.words)]
    if found.without_story:
        return [f"{found.without_story} examples share no word with a training document"]
    return []
