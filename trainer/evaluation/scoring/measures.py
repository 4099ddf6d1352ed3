"""Compute every measure of a prediction that needs no model. Imports nothing heavy: scoring processes begin here."""

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from trainer.evaluation.scoring.identify import Identified, identify
from trainer.evaluation.scoring.rouge import ROUGE, rouge_in
from trainer.evaluation.scoring.segmenters import NoSegmenterError
from trainer.recipe.profiles import DEFAULT, Profile

#: The columns. Those of models (`semantic.py`, `similarity.py`) come behind them where a model is given.
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
#: LaSE's alpha: words that a prediction may have more than its reference without a penalty.
_MORE_WORDS = 6

#: Shares of words and of pairs of words; None where a text has none.
Shares = tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A prediction and the texts that it is measured by. Languages are names of shards/languages.py."""

    source: str
    target: str
    document: str
    reference: str
    prediction: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The measures of a pair.

    language: identified in the prediction.  values: of `MEASURES`, as shares.
    empty_prediction: it has no token, and scores 0.  empty_reference: it has none, and ROUGE is not defined.
    no_segmenter: (language, reason) of those whose segmenter is missing; measures of their words are not defined.
    """

    language: str | None
    values: tuple[float | None, ...]
    empty_prediction: bool
    empty_reference: bool
    no_segmenter: tuple[tuple[str, str], ...]


def measures_of(pairs: Sequence[Pair], profile: Profile = DEFAULT) -> list[Measured]:
    """Return the measures of each pair."""
    identified = functools.cache(identify)
    return [_measure(pair, profile, identified(pair.reference), identified(pair.prediction)) for pair in pairs]


def _measure(pair: Pair, profile: Profile, in_reference: Identified, in_prediction: Identified) -> Measured:
    missing: dict[str, str] = {}

    def tokens(text: str, language: str) -> list[str] | None:
        try:
            return rouge_in(language, profile).tokenize(text)
        except NoSegmenterError as error:
            missing[error.language] = error.why
            return None

    document = tokens(pair.document, pair.source)
    reference, prediction = tokens(pair.reference, pair.target), tokens(pair.prediction, pair.target)
    scores: tuple[float | None, ...] = (None,) * len(ROUGE)
    penalty: float | None = None
    new: Shares = (None, None)
    repeated: Shares = (None, None)
    if reference is not None and prediction is not None:
        repeated = repetition(prediction)
        if reference:
            scores = rouge_in(pair.target, profile).score(pair.reference, pair.prediction) or scores
            penalty = length_penalty(len(reference), len(prediction))
    if document is not None and prediction is not None:
        new = novelty(prediction, document)
    values = (
        *scores,
        in_prediction.confidence_in(pair.target),
        float(in_prediction.is_other_than(pair.target)),
        float(in_reference.is_other_than(pair.target)),
        penalty,
        *new,
        *repeated,
    )
    return Measured(
        language=in_prediction.nearest(pair.target),
        values=values,
        empty_prediction=prediction == [],
        empty_reference=reference == [],
        no_segmenter=tuple(sorted(missing.items())),
    )


def novelty(prediction: Sequence[str], document: Sequence[str]) -> Shares:
    """Return the shares of the prediction's words and pairs of words that the document lacks.

    Across languages nearly all is new: the rest was copied, such as names, numbers or the document's own language.
    """
    return (
        _share_outside(prediction, document),
        _share_outside(list(pairwise(prediction)), list(pairwise(document))),
    )


def repetition(prediction: Sequence[str]) -> Shares:
    """Return the shares of the prediction's words and pairs of words that occur in it before."""
    return _share_repeated(prediction), _share_repeated(list(pairwise(prediction)))


def length_penalty(reference_words: int, prediction_words: int) -> float:
    """Return LaSE's: 1 up to six words more than the reference has, and falling from there."""
    return math.exp(min(0.0, 1 - prediction_words / (reference_words + _MORE_WORDS)))


def _share_outside(grams: Sequence[Hashable], known: Sequence[Hashable]) -> float | None:
    known_set = set(known)
    return sum(gram not in known_set for gram in grams) / len(grams) if grams else None


def _share_repeated(grams: Sequence[Hashable]) -> float | None:
    return 1 - len(set(grams)) / len(grams) if grams else None
