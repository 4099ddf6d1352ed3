"""Measure how far several annotators agree beyond chance.

Fleiss (1971), "Measuring nominal scale agreement among many raters": categories have no order, so 4 and 5 agree as
little as 1 and 5 do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement of raters.

    observed: share of pairs of raters that agree, the mean over subjects.  expected: the same by chance.
    kappa: (observed - expected) / (1 - expected); None where all ratings are of one category (expected is 1).
    """

    observed: float
    expected: float
    kappa: float | None


def fleiss_kappa(counts_NK: NDArray[np.int64]) -> Agreement:
    """Return the agreement of n raters, where `counts_NK[i, j]` of them gave subject i category j.

    counts_NK: (N, K), at least one subject; every row sums to the same n, at least 2.
    """
    raters_N = counts_NK.sum(axis=1)
    n = int(raters_N[0])
    assert n >= 2
    assert bool((raters_N == n).all())
    observed_N = (counts_NK * (counts_NK - 1)).sum(axis=1) / (n * (n - 1))
    share_K = counts_NK.sum(axis=0) / counts_NK.sum()
    observed, expected = float(observed_N.mean()), float((share_K**2).sum())
    of_one = np.count_nonzero(share_K) == 1
    return Agreement(
        observed=observed, expected=expected, kappa=None if of_one else (observed - expected) / (1 - expected)
    )
