"""Find the images that an example shows, and number the stored image sequences. Imports no torch."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shards.arrays import Ints

#: Whose images a row shows: the source article's alone, or the first one's that has any.
ImageRule = Literal["source", "source_or_target", "target_or_source"]
#: Bits of a place inside a shard, so that shard and place are one number: a terabyte, and eight million shards.
_OFFSET_BITS = 40


def image_owners(articles: NDArray[np.void], sources: Ints, targets: Ints, rule: ImageRule) -> Ints:
    """Return the article whose images each row shows. sources, targets: the rows' articles, of one shape."""
    if rule == "source":
        return sources
    first, second = (sources, targets) if rule == "source_or_target" else (targets, sources)
    owners: Ints = np.where(articles["images"][first] > 0, first, second)
    return owners


def image_numbers(articles: NDArray[np.void], rows: Ints) -> Ints:
    """Return the number of the stored image sequence that each article of `rows` has, -1 for one without images.

    Articles that share their images have one place in one shard, so one number.
    """
    shard, place = articles["shard"][rows], articles["roi_offset"][rows]
    number = (shard.astype(np.int64) << _OFFSET_BITS) | place.astype(np.int64)
    return np.where(articles["images"][rows] > 0, number, -1)
