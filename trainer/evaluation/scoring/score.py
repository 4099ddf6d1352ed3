"""Scores of predictions, all measures at once: what an evaluation calls."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trainer.evaluation.scoring.findings import findings
from trainer.evaluation.scoring.measures import MEASURES, Pair, measures_of, rouge_of
from trainer.evaluation.scoring.models import Models
from trainer.evaluation.scoring.processes import map_chunks
from trainer.evaluation.scoring.rouge import ROUGE
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
    """language: the one that each prediction was found to be in; None where nobody can tell.

    columns: measure -> a value for each pair, in per cent; None where it is not defined (no words, no pair of words).
    rouge: the profile, and how many texts could not be scored by it: what a report says (`findings.py`).
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
    """Every measure of every pair.

    A pair whose reference has no word has no ROUGE, and none that a model computes; nor has one of a language whose
    segmenter is missing.

    models: where LaBSE and BERTScore's model lie, for `meaning_similarity` and `lase`, and for `bertscore`; whether
    there is `sentence_similarity`.
    processes: None is one for each core. after_each: called now and then in between, for a watchdog.
    """
    # Pairs with one document side by side: it is cut into words once.
    order = sorted(range(len(pairs)), key=lambda number: (pairs[number].source, pairs[number].document))
    function = functools.partial(measures_of, profile=profile)
    scored = _in_chunks(function, [pairs[number] for number in order], processes, after_each)
    measured = [one for _, one in sorted(zip(order, scored, strict=True), key=lambda pair: pair[0])]
    columns: dict[str, list[float | None]] = {
        name: [None if (value := one.values[place]) is None else 100 * value for one in measured]
        for place, name in enumerate(MEASURES)
    }
    if models is not None:
        _add_models(columns, models, pairs, [one.empty_reference for one in measured], after_each)
    return Scores(
        language=[one.language for one in measured],
        columns=columns,
        rouge=findings(profile, pairs, measured),
    )


def score_rouge(
    triples: Sequence[tuple[str, str, str]], *, profile: Profile = DEFAULT, processes: int | None = None
) -> list[tuple[float, float, float, float] | None]:
    """F1 of each of `ROUGE`, between 0 and 1, of (language, reference, prediction); None where it is not defined."""
    # A language in as few processes as may be, each of which loads its dictionary; equal references side by side.
    order = sorted(range(len(triples)), key=lambda number: triples[number][:2])
    function = functools.partial(rouge_of, profile=profile)
    scored = _in_chunks(function, [triples[number] for number in order], processes)
    return [scores for _, scores in sorted(zip(order, scored, strict=True), key=lambda pair: pair[0])]


def mean_scores(rows: Sequence[Mapping[str, float | None]], names: Iterable[str] = ROUGE) -> dict[str, float]:
    """The mean of each of these measures over the rows that have it; one that none has is left out."""
    means = {}
    for name in names:
        values = [value for row in rows if (value := row.get(name)) is not None]
        if values:
            means[name] = sum(values) / len(values)
    return means


def _in_chunks(
    function: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    processes: int | None,
    after_each: Callable[[], None] = lambda: None,
) -> list[Result]:
    if len(items) < _FOR_PROCESSES:
        processes = 1
    chunks = [items[begin : begin + _CHUNK] for begin in range(0, len(items), _CHUNK)]
    cores = len(os.sched_getaffinity(0)) if processes is None else processes
    done = 0
    with stage("scoring", len(items)) as progress:

        def after_chunk() -> None:
            nonlocal done
            done = min(done + _CHUNK, len(items))  # the last is shorter
            progress.reach(done)
            after_each()

        return [result for results in map_chunks(function, chunks, cores, after_chunk) for result in results]


def _add_models(
    columns: dict[str, list[float | None]],
    models: Models,
    pairs: Sequence[Pair],
    empty: Sequence[bool],
    after_each: Callable[[], None],
) -> None:
    """Add the columns of the models. empty: whether a pair's reference has no word."""
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
