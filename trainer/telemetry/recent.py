"""Sums by direction over logged intervals. Rank 0 only; they are no state of the run."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.interval import Interval

#: How many intervals count as recent: with every later one, what an interval added shrinks by one part in so many.
INTERVALS = 32


class DirectionSums:
    """Matrices (T, S) by [target, source], as in `Interval`. kept: the share of them left at the next interval."""

    def __init__(self, languages: int, kept: float = 1.0) -> None:
        self.nats_TS, self.tokens_TS, self.examples_TS = (np.zeros((languages, languages)) for _ in range(3))
        self._kept = kept

    def add(self, interval: Interval) -> None:
        """Add a logged interval, without the directions whose loss in it is not finite."""
        finite_TS = np.isfinite(interval.nats_TS)
        for sums_TS, new_TS in (
            (self.nats_TS, interval.nats_TS),
            (self.tokens_TS, interval.tokens_TS),
            (self.examples_TS, interval.examples_TS),
        ):
            sums_TS *= self._kept
            sums_TS += np.where(finite_TS, new_TS, 0.0)

    def forget(self) -> None:
        for sums_TS in (self.nats_TS, self.tokens_TS, self.examples_TS):
            sums_TS.fill(0.0)


def recent_sums(languages: int) -> DirectionSums:
    """Return sums over about the last `INTERVALS` intervals."""
    return DirectionSums(languages, 1 - 1 / INTERVALS)


def mean(nats: NDArray[np.float64], tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return nats / tokens element by element, NaN where there are no tokens."""
    return np.asarray(np.divide(nats, tokens, out=np.full(np.shape(nats), np.nan), where=tokens > 0))


def cross(values_TS: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a copy with the cross-lingual directions alone: a diagonal of zeros."""
    values_TS = values_TS.copy()
    np.fill_diagonal(values_TS, 0.0)
    return values_TS


def nll_by_target(sums: DirectionSums | Interval) -> dict[str, NDArray[np.float64]]:
    """Return kind -> nats a token by target language (T,), each direction by its own branch; NaN where none was."""
    nats_TS, tokens_TS = sums.nats_TS, sums.tokens_TS
    return {
        "mms": mean(np.diagonal(nats_TS), np.diagonal(tokens_TS)),
        "mxls": mean(cross(nats_TS).sum(axis=1), cross(tokens_TS).sum(axis=1)),
    }


def by_direction(
    languages: Sequence[str], values_TS: NDArray[np.float64], observed_TS: NDArray[np.bool_] | None = None
) -> Iterator[tuple[str, float]]:
    """Yield (source>target, value) of the observed directions (None: of all), row by row."""
    indices = np.argwhere(np.ones_like(values_TS, dtype=bool) if observed_TS is None else observed_TS)
    for target, source in indices.tolist():
        yield f"{languages[source]}>{languages[target]}", float(values_TS[target, source])
