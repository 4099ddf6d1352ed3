"""Whether one evaluation is better than another by more than chance: paired bootstrap with a correction for many tests.

Koehn (2004), "Statistical Significance Tests for Machine Translation Evaluation". Resampled are stories, not examples:
the examples of a story share its document and images in up to 44 x 44 directions, and are no independent draws.
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
    """Of two means over the same examples. low, high: where 95% of the resampled differences lie.

    p: two-sided, the share of resamples in which the difference is not of its sign, counted twice; never 0, and never
    below what the signs of so few stories could show: resamples of one story are all alike.
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
    """How much `other` is above `baseline`. Arrays (N,): the scores of N examples, and the number of each one's story.

    weights: of the examples in both means; None: all count alike. A pure function of its arguments.
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
    # One is added to both: the sample itself is one of those that chance might have given.
    shares = ((np.count_nonzero(side) + 1) / (samples + 1) for side in (means <= 0, means >= 0))
    mean = float((weight_N * difference_N).sum() / weight_N.sum())
    p = min(1.0, max(2 * min(shares), 2.0 ** (1 - len(sums_S2))))
    return Difference(mean=mean, low=float(low), high=float(high), p=p)


@lru_cache(maxsize=32)
def _multiplicity(size: int, rows: int, seed: int, part: int) -> NDArray[np.uint8]:
    """How often each of `size` stories comes in each of `rows` resamples, (rows, size); tests share them."""
    drawn = np.random.default_rng([seed, part]).integers(size, size=(rows, size))
    drawn += np.arange(rows)[:, None] * size
    counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
    assert counts.max() < 256  # about 1 each: a story never comes so often
    return counts.astype(np.uint8)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted for so many tests (Holm, 1979): below 0.05, none of those that are is wrong with 95% certainty."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result
