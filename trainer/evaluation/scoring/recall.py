"""Score retrieval: how often a query finds its own among the first k candidates."""

import numpy as np
from numpy.typing import NDArray

#: The k of recall@k, as in IGLUE's retrieval, which reports the first.
RECALLED = (1, 5, 10)


def recalls(score_NN: NDArray[np.floating]) -> dict[str, float]:
    """Return recall@k in per cent, `recall1` and so on, of queries whose own candidate is on the diagonal.

    score_NN: a row a query.  A candidate that scores as high as a query's own comes before it, so ties are misses.
    """
    before_N = (~(score_NN < score_NN.diagonal()[:, None])).sum(axis=1) - 1  # its own is not below itself
    return {f"recall{k}": 100 * float((before_N < k).mean()) for k in RECALLED}


def chance(candidates: int) -> dict[str, float]:
    """Return what random scores give on average."""
    return {f"recall{k}": 100 * min(1.0, k / candidates) for k in RECALLED}
