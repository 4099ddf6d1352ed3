"""What can be counted of a prediction without a model: what its document lacks, what it repeats, how long it is."""

import math
from collections.abc import Collection, Mapping

from trainer.evaluation.scoring.rouge import Counted

#: LaSE's alpha: so many words more than the reference has are not punished.
_MORE_WORDS = 6


def novelty(prediction: Counted, document: Counted) -> tuple[float | None, float | None]:
    """The shares of the prediction's words and pairs of words that the document has not; None where it has none.

    Across languages nearly all is new: what is not was copied, names and numbers or the document's own language.
    """
    return _outside(prediction.unigrams, document.unigrams), _outside(prediction.bigrams, document.bigrams)


def repetition(prediction: Counted) -> tuple[float | None, float | None]:
    """The shares of the prediction's words and pairs of words that it had before; None where it has none."""
    return _repeated(prediction.unigrams), _repeated(prediction.bigrams)


def length_penalty(of_reference: int, of_prediction: int) -> float:
    """LaSE's, for so many words: 1 up to six more than the reference has, and falling from there."""
    return math.exp(min(0.0, 1 - of_prediction / (of_reference + _MORE_WORDS)))


def _outside(grams: Mapping[str, int] | Mapping[tuple[str, str], int], known: Collection[object]) -> float | None:
    total = sum(grams.values())
    return sum(number for gram, number in grams.items() if gram not in known) / total if total else None


def _repeated(grams: Mapping[str, int] | Mapping[tuple[str, str], int]) -> float | None:
    total = sum(grams.values())
    return 1 - len(grams) / total if total else None
