"""Score representations: by the class that a classifier gives them, and by their nearest neighbours (AMID, Table 2).

Shape suffixes: N queries, M neighbours to find (the gallery), R the width of representations.
"""

import numpy as np
from numpy.typing import NDArray

from models.objectives.amid_config import COLUMNS

#: The k of R@k, as in AMID's Table 2.
NEIGHBOURS = (1, 5)
#: Figures of one model.
FIGURES = ("accuracy", *(f"neighbour{k}" for k in NEIGHBOURS))
#: Measures of the table of predictions.
MEASURES = tuple(f"{column}_{figure}" for column in COLUMNS for figure in FIGURES)
#: Queries that are compared with the gallery at a time.
_AT_ONCE = 1024


def found_among_neighbours(
    query_NR: NDArray[np.floating],
    class_N: NDArray[np.int64],
    gallery_MR: NDArray[np.floating],
    gallery_class_M: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return whether any of a query's k most similar ones in the gallery has its class, (N, 2) for `NEIGHBOURS`.

    Similarity is the cosine; of equally similar ones the first come first. A gallery of less than k is all of a query's
    neighbours. A query of class -1 finds none.
    """
    gallery_RM, most = _normalized(gallery_MR).T, min(max(NEIGHBOURS), len(gallery_MR))
    found = np.zeros((len(query_NR), len(NEIGHBOURS)), np.bool_)
    for begin in range(0, len(query_NR), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        for row, far_M in enumerate(-(_normalized(query_NR[rows]) @ gallery_RM), begin):
            near = np.flatnonzero(far_M <= np.partition(far_M, most - 1)[most - 1]) if most else np.zeros(0, np.int64)
            near = near[np.argsort(far_M[near], kind="stable")]
            same = (gallery_class_M[near] == class_N[row]) & (class_N[row] >= 0)
            found[row] = [same[:k].any() for k in NEIGHBOURS]
    return found


def _normalized(states_NR: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(states_NR, axis=1, keepdims=True)
    return states_NR / np.where(lengths > 0, lengths, 1)
