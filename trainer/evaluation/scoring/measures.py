"""Every measure of a prediction that needs no model. Imports nothing heavy: the processes that score begin here."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.evaluation.scoring.copying import length_penalty, novelty, repetition
from trainer.evaluation.scoring.identify import identify
from trainer.evaluation.scoring.languages import tokens_of_sentences
from trainer.evaluation.scoring.rouge import ROUGE, Counted, rouge

#: Every measure that needs no model, as columns. Those with one (`semantic.py`) come behind them where it is given.
MEASURES = (
    *ROUGE,
    "language_confidence",
    "wrong_language",
    "wrong_language_reference",
    "length_penalty",
    "novelty1",
    "novelty2",
    "repetition1",
    "repetition2",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A prediction and what it is measured by. Languages are names of shards/languages.py."""

    source: str
    target: str
    document: str
    reference: str
    prediction: str


def rouge_of(triples: Sequence[tuple[str, str, str]]) -> list[tuple[float, float, float, float]]:
    counted = _Counts()
    return [rouge(counted(reference, of), counted(prediction, of)) for of, reference, prediction in triples]


def measures_of(pairs: Sequence[Pair]) -> list[tuple[str | None, tuple[float | None, ...]]]:
    """The language and the values of `MEASURES`, as shares, of each pair."""
    counted, identified = _Counts(), functools.cache(identify)
    found: list[tuple[str | None, tuple[float | None, ...]]] = []
    for pair in pairs:
        document = counted(pair.document, pair.source)
        reference, prediction = counted(pair.reference, pair.target), counted(pair.prediction, pair.target)
        language = identified(pair.prediction)
        values = (
            *rouge(reference, prediction),
            language.confidence_in(pair.target),
            float(language.is_other_than(pair.target)),
            float(identified(pair.reference).is_other_than(pair.target)),
            length_penalty(len(reference.tokens), len(prediction.tokens)),
            *novelty(prediction, document),
            *repetition(prediction),
        )
        found.append((language.nearest(pair.target), values))
    return found


class _Counts(dict[tuple[str, str], Counted]):
    """The words of texts by text and language, each text cut into words and counted once."""

    def __missing__(self, key: tuple[str, str]) -> Counted:
        counted = self[key] = Counted(tokens_of_sentences(*key))
        return counted

    def __call__(self, text: str, language: str) -> Counted:
        return self[text, language]
