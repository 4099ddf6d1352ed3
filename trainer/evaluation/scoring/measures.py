"""Every measure of a prediction that needs no model. Imports nothing heavy: the processes that score begin here."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.evaluation.scoring.copying import length_penalty, novelty, repetition
from trainer.evaluation.scoring.identify import Identified, identify
from trainer.evaluation.scoring.languages import counted
from trainer.evaluation.scoring.rouge import ROUGE, Counted, rouge
from trainer.evaluation.scoring.segmenters import NoSegmenterError
from trainer.recipe.profiles import DEFAULT, Profile

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Of a pair.  language: what the prediction was found to be in.  values: of `MEASURES`, as shares.

    empty_prediction: it has no token, and scores 0.  empty_reference: it has none, and there is nothing to score.
    uncut: language -> why it has no segmenter; what its words would say is not defined.
    """

    language: str | None
    values: tuple[float | None, ...]
    empty_prediction: bool
    empty_reference: bool
    uncut: tuple[tuple[str, str], ...]


def rouge_of(
    triples: Sequence[tuple[str, str, str]], profile: Profile = DEFAULT
) -> list[tuple[float, float, float, float] | None]:
    """Return F1 of each of `ROUGE` of (language, reference, prediction); None where it is not defined."""
    counts = _Counts(profile)
    found: list[tuple[float, float, float, float] | None] = []
    for language, *texts in triples:
        reference, prediction = (counts[text, language] for text in texts)
        is_defined = reference is not None and prediction is not None and reference.tokens
        found.append(rouge(reference, prediction) if is_defined else None)  # type: ignore[arg-type]
    return found


def measures_of(pairs: Sequence[Pair], profile: Profile = DEFAULT) -> list[Measured]:
    """Return what is measured of each pair."""
    counts, identified = _Counts(profile), functools.cache(identify)
    return [_measured(pair, counts, identified(pair.reference), identified(pair.prediction)) for pair in pairs]


def _measured(pair: Pair, counts: "_Counts", of_reference: Identified, of_prediction: Identified) -> Measured:
    document = counts[pair.document, pair.source]
    reference, prediction = counts[pair.reference, pair.target], counts[pair.prediction, pair.target]
    scores: tuple[float | None, ...] = (None,) * len(ROUGE)
    penalty: float | None = None
    new: tuple[float | None, float | None] = (None, None)
    again: tuple[float | None, float | None] = (None, None)
    if reference is not None and prediction is not None:
        again = repetition(prediction)
        if reference.tokens:
            scores = rouge(reference, prediction)
            penalty = length_penalty(len(reference.tokens), len(prediction.tokens))
    if document is not None and prediction is not None:
        new = novelty(prediction, document)
    values = (
        *scores,
        of_prediction.confidence_in(pair.target),
        float(of_prediction.is_other_than(pair.target)),
        float(of_reference.is_other_than(pair.target)),
        penalty,
        *new,
        *again,
    )
    return Measured(
        language=of_prediction.nearest(pair.target),
        values=values,
        empty_prediction=prediction is not None and not prediction.tokens,
        empty_reference=reference is not None and not reference.tokens,
        uncut=tuple((name, counts.uncut[name]) for name in sorted({pair.source, pair.target} & counts.uncut.keys())),
    )


class _Counts(dict[tuple[str, str], Counted | None]):
    """The tokens of texts by text and language, each text cut and counted once; None where its language has no
    segmenter. uncut: those languages, and why."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self._profile = profile
        self.uncut: dict[str, str] = {}

    def __missing__(self, key: tuple[str, str]) -> Counted | None:
        try:
            found = counted(*key, self._profile)
        except NoSegmenterError as error:
            self.uncut[error.language] = error.why
            found = None
        self[key] = found
        return found
