"""Score retrieval: how often a query finds its own among the first k candidates."""

import numpy as np
from numpy.typing import NDArray

#: The k of recall@k, as in IGLUE's retrieval, which reports the first.
RECALLED = (1, 5, 10)
#: Measures of the table of predictions.
MEASURES = tuple(f"{side}recall{k}" for side in ("", "image_to_text_", "text_to_image_") for k in RECALLED)


def recalls_by_query(score_NN: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Return `recall1` and so on (N,), 100 for a query that finds its own candidate, on the diagonal, and else 0.

    score_NN: a row a query.  A candidate that scores as high as a query's own comes before it, so ties are misses.
    """
    before_N = (~(score_NN < score_NN.diagonal()[:, None])).sum(axis=1) - 1  # its own is not below itself
    return {f"recall{k}": 100.0 * (before_N < k) for k in RECALLED}


def recalls(score_NN: NDArray[np.floating]) -> dict[str, float]:
    """Return recall@k in per cent, the means over queries. score_NN: as of `recalls_by_query`."""
    return {name: float(of_N.mean()) for name, of_N in recalls_by_query(score_NN).items()}


def scores_by_story(score_NN: NDArray[np.floating]) -> list[dict[str, float]]:
    """Return `MEASURES` of each story: what its image and its name find, and the mean of both.

    score_NN: of the names, a row an image.
    """
    images, names = recalls_by_query(score_NN), recalls_by_query(score_NN.T)
    columns = {name: (images[name] + names[name]) / 2 for name in images}
    columns |= {f"image_to_text_{name}": of_N for name, of_N in images.items()}
    columns |= {f"text_to_image_{name}": of_N for name, of_N in names.items()}
    return [dict(zip(columns, map(float, of), strict=True)) for of in zip(*columns.values(), strict=True)]


def chance(candidates: int) -> dict[str, float]:
    """Return what random scores give on average."""
    return {f"recall{k}": 100 * min(1.0, k / candidates) for k in RECALLED}
