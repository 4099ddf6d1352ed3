"""Score predictions by all measures at once."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trainer.evaluation.scoring.measures import MEASURES, Measured, Pair, measures_of
from trainer.evaluation.scoring.models import Models
from trainer.evaluation.scoring.processes import map_chunks
from trainer.evaluation.scoring.rouge import F1, ROUGE, rouge_of
from trainer.evaluation.scoring.similarity import SIMILARITY, sentence_similarity
from trainer.recipe.profiles import DEFAULT, Profile
from trainer.terminal.progress import stage

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 256
#: Fewer are scored before other processes have loaded their dictionaries.
_FOR_PROCESSES = 4 * _CHUNK


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The scores of predictions, in their order.

    language: identified in each prediction; None where the text does not tell.
    columns: measure -> a value for each, in per cent; None where it is not defined (no words, no pair of words).
    rouge: the report's part `rouge`: the profile, and the number of texts that ROUGE could not score.
    """

    language: list[str | None]
    columns: dict[str, list[float | None]]
    rouge: dict[str, Any]

    def row(self, number: int) -> dict[str, float | None]:
        return {name: column[number] for name, column in self.columns.items()}


def score(
    pairs: Sequence[Pair],
    *,
    profile: Profile = DEFAULT,
    models: Models | None = None,
    processes: int | None = None,
    after_each: Callable[[], None] = lambda: None,
) -> Scores:
    """Return every measure of every pair.

    A pair whose reference has no word, or whose language has no segmenter, has no ROUGE; the former has no measure of
    a model either.

    models: for `meaning_similarity` and `lase`, `bertscore` and `sentence_similarity`.
    processes: None is one for each core. after_each: called now and then, for a watchdog.
    """
    # Pairs with one document side by side: it is tokenized once.
    order = sorted(range(len(pairs)), key=lambda number: (pairs[number].source, pairs[number].document))
    measured = _in_chunks(functools.partial(measures_of, profile=profile), pairs, order, processes, after_each)
    columns: dict[str, list[float | None]] = {
        name: [None if (value := one.values[place]) is None else 100 * value for one in measured]
        for place, name in enumerate(MEASURES)
    }
    if models is not None:
        _add_models(columns, models, pairs, [one.empty_reference for one in measured], after_each)
    return Scores(
        language=[one.language for one in measured],
        columns=columns,
        rouge=_facts_of_rouge(profile, pairs, measured),
    )


def score_rouge(
    triples: Sequence[tuple[str, str, str]], *, profile: Profile = DEFAULT, processes: int | None = None
) -> list[F1 | None]:
    """Return F1 of each of `ROUGE`, between 0 and 1, of (language, reference, prediction); None where not defined."""
    # A language in as few processes as may be, each of which loads its dictionary; equal references side by side.
    order = sorted(range(len(triples)), key=lambda number: triples[number][:2])
    return _in_chunks(functools.partial(rouge_of, profile=profile), triples, order, processes)


def mean_scores(rows: Sequence[Mapping[str, float | None]], names: Iterable[str] = ROUGE) -> dict[str, float]:
    """Return the mean of each measure over the rows that have it; a measure that no row has is left out."""
    means = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        if values:
            means[name] = sum(values) / len(values)
    return means


def _in_chunks(
    function: Callable[[list[Item]], list[Result]],
    items: Sequence[Item],
    order: Sequence[int],
    processes: int | None,
    after_each: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Map over chunks of the items, taken in `order`; results are in the items' own order."""
    if len(items) < _FOR_PROCESSES:
        processes = 1
    chunks = [[items[number] for number in order[begin : begin + _CHUNK]] for begin in range(0, len(items), _CHUNK)]
    cores = len(os.sched_getaffinity(0)) if processes is None else processes
    done = 0
    with stage("scoring", len(items)) as progress:

        def after_chunk() -> None:
            nonlocal done
            done = min(done + _CHUNK, len(items))  # the last is shorter
            progress.reach(done)
            after_each()

        results = [result for of_chunk in map_chunks(function, chunks, cores, after_chunk) for result in of_chunk]
    return [result for _, result in sorted(zip(order, results, strict=True), key=lambda pair: pair[0])]


def _facts_of_rouge(profile: str, pairs: Sequence[Pair], measured: Sequence[Measured]) -> dict[str, Any]:
    """Return the report's part `rouge`.

    empty_predictions, empty_references: by target language, the texts without a token. no_segmenter: language -> the
    examples that have it as target (no ROUGE) and as source (no novelty), and how to get the segmenter.
    """
    predictions = Counter(pair.target for pair, one in zip(pairs, measured, strict=True) if one.empty_prediction)
    references = Counter(pair.target for pair, one in zip(pairs, measured, strict=True) if one.empty_reference)
    no_segmenter: dict[str, dict[str, Any]] = {}
    for pair, one in zip(pairs, measured, strict=True):
        for language, why in one.no_segmenter:
            entry = no_segmenter.setdefault(language, {"references": 0, "documents": 0, "why": why})
            entry["references"] += language == pair.target
            entry["documents"] += language == pair.source
    return {
        "profile": profile,
        "empty_predictions": dict(sorted(predictions.items())),
        "empty_references": dict(sorted(references.items())),
        "no_segmenter": dict(sorted(no_segmenter.items())),
    }


def _add_models(
    columns: dict[str, list[float | None]],
    models: Models,
    pairs: Sequence[Pair],
    empty: Sequence[bool],
    after_each: Callable[[], None],
) -> None:
    """Add the columns of the models. empty: True for a pair whose reference has no word."""
    if models.similarity:
        with stage("scoring with the sentence encoder"):
            cosines = sentence_similarity(pairs, after_each)
        columns[SIMILARITY] = [None if value is None else 100 * value for value in cosines]
    if models.labse is None and models.bertscore is None:
        return
    from trainer.evaluation.scoring.semantic import bertscore_f1, labse_similarity  # torch, which ROUGE does not need

    texts = [(pair.reference, pair.prediction) for pair in pairs]

    def defined(values: Sequence[float]) -> list[float | None]:
        return [None if nothing else 100 * value for value, nothing in zip(values, empty, strict=True)]

    if models.labse is not None:
        with stage("scoring with LaBSE"):
            meaning = labse_similarity(models.labse, texts, models.device, after_each)
        parts = zip(meaning, columns["language_confidence"], columns["length_penalty"], strict=True)
        columns["meaning_similarity"] = defined(meaning)
        columns["lase"] = [
            None if length is None else value * (sure or 0.0) * length / 100 for value, sure, length in parts
        ]
    if models.bertscore is not None:
        with stage("scoring with BERTScore"):
            values = bertscore_f1(models.bertscore, texts, models.device, after_each)
        columns["bertscore"] = defined(values)
