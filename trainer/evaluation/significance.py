"""Whether one evaluation is better than another by more than chance: paired bootstrap with a correction for many tests.

Koehn (2004), "Statistical Significance Tests for Machine Translation Evaluation". Resampled are stories, not examples:
the examples of a story share its document and images in up to 44 x 44 directions, and are no independent draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Resampled sums held in memory at a time.
_CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Of two means over the same examples. low, high: where 95% of the resampled differences lie.

    p: two-sided, the share of resamples in which the difference is not of its sign, counted twice; never 0.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    baseline: Sequence[float], other: Sequence[float], stories: Sequence[int], *, samples: int = 1000, seed: int = 0
) -> Difference:
    """How much `other` is above `baseline`. Arrays (N,): the scores of N examples, and the number of each one's story.

    A pure function of its arguments.
    """
    difference_N = np.asarray(other, np.float64) - np.asarray(baseline, np.float64)
    assert len(difference_N) == len(stories) > 0
    _, story_N = np.unique(np.asarray(stories), return_inverse=True)
    sum_S = np.bincount(story_N, difference_N)
    count_S = np.bincount(story_N).astype(np.float64)
    size = len(sum_S)
    random, found = np.random.default_rng(seed), []
    rows = max(1, _CHUNK // size)
    for begin in range(0, samples, rows):
        drawn = random.integers(size, size=(min(rows, samples - begin), size))
        found.append(sum_S[drawn].sum(axis=1) / count_S[drawn].sum(axis=1))
    means = np.concatenate(found)
    low, high = np.quantile(means, (0.025, 0.975))
    # One is added to both: the sample itself is one of those that chance might have given.
    shares = ((np.count_nonzero(side) + 1) / (samples + 1) for side in (means <= 0, means >= 0))
    return Difference(mean=float(difference_N.mean()), low=float(low), high=float(high), p=min(1.0, 2 * min(shares)))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted for so many tests (Holm, 1979): below 0.05, none of those that are is wrong with 95% certainty."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result
