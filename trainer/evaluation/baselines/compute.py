"""Write and score the baselines' summaries of held-out examples: a pure function of the corpus and the examples.

Reads texts alone; imports no torch.
"""

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.errors import InputError
from shards.format.index import Corpus
from trainer.evaluation.baseline_names import LABELS
from trainer.evaluation.baselines.extract import lead, median_words, oracle
from trainer.evaluation.baselines.nearest import Task, nearest
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.processes import map_chunks
from trainer.evaluation.scoring.score import Scores
from trainer.evaluation.scoring.segmenters import NoSegmenterError, segmenter
from trainer.recipe.profiles import DEFAULT, Profile
from trainer.terminal.progress import stage

#: Training summaries of a language that LEAD's length is taken from, and documents to compare: evenly spaced.
_MOST_SUMMARIES, _MOST_DOCUMENTS = 2_000, 20_000
_CHUNK = 256
#: Fewer texts are done before other processes have loaded their dictionaries.
_FOR_PROCESSES = 100_000
#: Texts that one oracle takes as long as: it scores a document's sentences again and again.
_ORACLE = 100

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
Scorer = Callable[[Sequence[Pair]], Scores]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A held-out example. story: its key.  source, target: rows of its articles in the index."""

    number: int
    story: str
    source: int
    target: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Baselines:
    """The baselines' summaries and scores.

    rows: name -> a row an example, in the examples' order.  measures: those of the rows.
    words: LEAD's k by target language.  without_story: examples that share no word with a training document, whose
    nearest story's summary is empty.  unreadable: training articles that could not be read.
    compared: training documents compared, `of` so many.  uncut: examples whose document no segmenter cuts.
    """

    rows: dict[str, list[Prediction]]
    measures: list[str]
    words: dict[str, int] = field(default_factory=dict)
    without_story: int = 0
    unreadable: int = 0
    compared: int = 0
    of: int = 0
    uncut: int = 0


def compute(
    corpus: Corpus,
    reader: Reader,
    examples: Sequence[Example],
    scorer: Scorer,
    *,
    profile: Profile = DEFAULT,
    names: Collection[str] = tuple(LABELS),
    after_each: Callable[[], None] = lambda: None,
) -> Baselines:
    """Return the rows of the baselines `names`.

    profile: of the ROUGE that the oracle raises.  after_each: called now and then, for a watchdog. Documents of a
    language without a segmenter have empty baselines, and are counted (`Baselines.uncut`).

    Raises `InputError` where an example cannot be read.
    """
    training = _Training(corpus, reader)
    languages = corpus.languages
    pairs = [pair_of(corpus, reader, example) for example in examples]
    written: dict[str, list[str]] = {}
    words: dict[str, int] = {}
    without = compared = of = 0
    with stage("baselines"):
        if "lead" in names:
            targets = sorted({pair.target for pair in pairs})
            tasks = [(name, training.summaries(languages.index(name))) for name in targets]
            words = dict(zip(targets, _map(_median_words, tasks, after_each), strict=True))
            written["lead"] = _of_all(functools.partial(_leads, words=words), pairs, after_each)
        if "oracle" in names:
            written["oracle"] = _of_all(functools.partial(_oracles, profile=profile), pairs, after_each, _ORACLE)
        if "nearest" in names:
            written["nearest"], compared, of = _nearest(training, examples, pairs, after_each)
            without = sum(not text for text in written["nearest"])
        chosen = [name for name in LABELS if name in names]
        after_each()
    rows: dict[str, list[Prediction]] = {}
    measures: list[str] = []
    for name in chosen:
        of_name = [replace(pair, prediction=text) for pair, text in zip(pairs, written[name], strict=True)]
        scores = scorer(of_name)
        rows[name], measures = as_rows(examples, of_name, scores), list(scores.columns)
    return Baselines(
        rows=rows,
        measures=measures,
        words=words,
        without_story=without,
        unreadable=training.unreadable,
        compared=compared,
        of=of,
        uncut=sum(not _is_cut(pair.source) for pair in pairs),
    )


def pair_of(corpus: Corpus, reader: Reader, example: Example, prediction: str = "") -> Pair:
    """Return the texts of an example. Raises `InputError` where they cannot be read."""
    try:
        document, reference = reader.article(example.source), reader.article(example.target)
    except UnreadableError as error:
        raise InputError(f"{error}: `d2tv verify {corpus.location}` lists all that is damaged") from error
    return Pair(
        source=document.language,
        target=reference.language,
        document=document.text,
        reference=reference.summary,
        prediction=prediction,
    )


def as_rows(examples: Sequence[Example], pairs: Sequence[Pair], scores: Scores) -> list[Prediction]:
    """Return the rows of predictions of these examples, whose texts and scores are in the same order."""
    return [
        Prediction(
            number=example.number,
            story=example.story,
            source=pair.source,
            target=pair.target,
            prediction=pair.prediction,
            reference=pair.reference,
            language=scores.language[place],
            scores=scores.row(place),
        )
        for place, (example, pair) in enumerate(zip(examples, pairs, strict=True))
    ]


class _Training:
    """The training split's articles by language and story, without their variants."""

    def __init__(self, corpus: Corpus, reader: Reader) -> None:
        articles = np.asarray(corpus.articles)
        of_split = np.array([name.split("-")[0] == "train" for name in corpus.shards], bool)
        rows = np.flatnonzero(of_split[articles["shard"]]) if len(of_split) else np.zeros(0, np.int64)
        rows = rows[~corpus.is_variant(rows)]
        self._reader, self.languages = reader, corpus.languages
        self._story = articles["story"].astype(np.int64)
        self._rows = {number: rows[articles["language"][rows] == number] for number in range(len(corpus.languages))}
        self._stories = int(self._story.max()) + 1 if len(self._story) else 0
        self.unreadable = 0

    def summaries(self, language: int) -> list[str]:
        """Return some of a language's summaries."""
        return [text for _, text in self._texts(_spaced(self._rows[language], _MOST_SUMMARIES), "summary")]

    def documents(self, language: int) -> tuple[list[str], NDArray[np.int64], int]:
        """Return some of a language's documents, the number of each one's story, and the count of all."""
        rows = self._rows[language]
        found = self._texts(_spaced(rows, _MOST_DOCUMENTS), "text")
        return [text for _, text in found], self._story[[row for row, _ in found]], len(rows)

    def row_of_story(self, language: int) -> NDArray[np.int64]:
        """Return (stories,): the row of each story's article in a language; -1 where it has none."""
        row_of = np.full(self._stories, -1)
        row_of[self._story[self._rows[language]]] = self._rows[language]
        return row_of

    def summary(self, row: int) -> str:
        """Return the summary of an article; empty where it cannot be read."""
        found = self._texts(np.array([row]), "summary")
        return found[0][1] if found else ""

    def _texts(self, rows: NDArray[np.int64], what: str) -> list[tuple[int, str]]:
        found = []
        for row in rows.tolist():
            try:
                found.append((row, str(getattr(self._reader.article(row), what))))
            except UnreadableError:
                self.unreadable += 1
        return found


def _nearest(
    training: _Training, examples: Sequence[Example], pairs: Sequence[Pair], after_each: Callable[[], None]
) -> tuple[list[str], int, int]:
    """Return the summary of each example's nearest training story, the count of training documents compared, and of
    all."""
    by_source: dict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        by_source[pair.source].append(place)
    tasks, rows_of, compared, of = [], [], 0, 0
    for source, places in sorted(by_source.items()):
        texts, stories, count = training.documents(training.languages.index(source))
        compared, of = compared + len(texts), of + count
        targets = sorted({pairs[place].target for place in places})
        row_TD = np.stack([training.row_of_story(training.languages.index(name))[stories] for name in targets])
        documents = {row: number for number, row in enumerate(sorted({examples[place].source for place in places}))}
        text_of = {examples[place].source: pairs[place].document for place in places}
        tasks.append(
            Task(
                language=source,
                documents=[text_of[row] for row in documents],
                wanted=[(documents[examples[place].source], targets.index(pairs[place].target)) for place in places],
                training=texts,
                has_TD=row_TD >= 0,
            )
        )
        rows_of.append((places, row_TD))
    written = [""] * len(pairs)
    for task, (places, row_TD), found in zip(
        tasks, rows_of, _map(_nearest_places, tasks, after_each, compared), strict=True
    ):
        for place, (_, target), number in zip(places, task.wanted, found, strict=True):
            if number >= 0:
                written[place] = training.summary(int(row_TD[target, number]))
    return written, compared, of


def _is_cut(*languages: str) -> bool:
    """Return True if the segmenters of these languages are there."""
    try:
        for language in languages:
            segmenter(language)
    except NoSegmenterError:
        return False
    return True


def _median_words(task: tuple[str, Sequence[str]]) -> int:
    return median_words(*task) if _is_cut(task[0]) else 1


def _leads(pairs: Sequence[Pair], words: Mapping[str, int]) -> list[str]:
    return [lead(pair.document, pair.source, words[pair.target]) if _is_cut(pair.source) else "" for pair in pairs]


def _oracles(pairs: Sequence[Pair], profile: Profile) -> list[str]:
    return [
        oracle(pair.document, pair.reference, pair.source, pair.target, profile)
        if _is_cut(pair.source, pair.target)
        else ""
        for pair in pairs
    ]


def _nearest_places(task: Task) -> list[int]:
    return nearest(task) if _is_cut(task.language) else [-1] * len(task.wanted)


def _of_all(
    function: Callable[[Sequence[Pair]], list[str]],
    pairs: Sequence[Pair],
    after_each: Callable[[], None],
    cost: int = 1,
) -> list[str]:
    """Return the function's texts of all pairs. cost: of a pair, in texts."""
    chunks = [pairs[begin : begin + _CHUNK] for begin in range(0, len(pairs), _CHUNK)]
    return [text for chunk in _map(function, chunks, after_each, len(pairs) * cost) for text in chunk]


def _map(
    function: Callable[[Chunk], Result],
    chunks: Sequence[Chunk],
    after_each: Callable[[], None],
    texts: int | None = None,
) -> list[Result]:
    """Map on all cores where it is worth it. texts: the count of texts to read; None: by the chunks."""
    count = texts if texts is not None else len(chunks) * _CHUNK
    cores = len(os.sched_getaffinity(0)) if count >= _FOR_PROCESSES else 1
    return map_chunks(function, chunks, cores, after_each)


def _spaced(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most `most` of the rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
