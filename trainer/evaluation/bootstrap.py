"""Test whether two evaluations differ, by paired bootstrap over stories (Koehn 2004), corrected for many tests.

Stories are resampled, not examples: the examples of a story share its document and images in up to 44 x 44 directions,
and are no independent draws. SciPy's bootstrap resamples single observations, not weighted clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Numbers held in memory at a time.
_CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The difference of two means over the same examples.

    low, high: the interval of 95% of the resampled differences. p: two-sided, twice the share of resamples in which the
    difference has not its sign; never 0, and never below what the signs of so few stories can show.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    baseline: Sequence[float],
    other: Sequence[float],
    stories: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Return by how much `other` is above `baseline`.

    baseline, other, stories: (N,), the scores of N examples and the number of each one's story. weights: of the
    examples in both means; None: equal. A pure function of its arguments.
    """
    difference_N = np.asarray(other, np.float64) - np.asarray(baseline, np.float64)
    weight_N = np.ones_like(difference_N) if weights is None else np.asarray(weights, np.float64)
    assert len(difference_N) == len(stories) == len(weight_N) > 0
    _, story_N = np.unique(np.asarray(stories), return_inverse=True)
    sums_S2 = np.stack([np.bincount(story_N, weight_N * difference_N), np.bincount(story_N, weight_N)], axis=1)
    rows = max(1, _CHUNK // len(sums_S2))
    parts = [
        _multiplicity(len(sums_S2), min(rows, samples - begin), seed, part).astype(np.float64) @ sums_S2
        for part, begin in enumerate(range(0, samples, rows))
    ]
    sums_R2 = np.concatenate(parts)
    means = sums_R2[:, 0] / sums_R2[:, 1]
    low, high = np.quantile(means, (0.025, 0.975))
    # One is added to both: the sample itself is a possible resample.
    shares = ((np.count_nonzero(side) + 1) / (samples + 1) for side in (means <= 0, means >= 0))
    mean = float((weight_N * difference_N).sum() / weight_N.sum())
    p = min(1.0, max(2 * min(shares), 2.0 ** (1 - len(sums_S2))))
    return Difference(mean=mean, low=float(low), high=float(high), p=p)


@lru_cache(maxsize=32)
def _multiplicity(size: int, rows: int, seed: int, part: int) -> NDArray[np.uint8]:
    """Return the count of each of `size` stories in each of `rows` resamples, (rows, size); tests share them."""
    drawn = np.random.default_rng([seed, part]).integers(size, size=(rows, size))
    drawn += np.arange(rows)[:, None] * size
    counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
    assert counts.max() < 256  # about 1 each
    return counts.astype(np.uint8)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p-values adjusted for the number of tests (Holm, 1979): with 95% certainty none below 0.05 is wrong."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result
