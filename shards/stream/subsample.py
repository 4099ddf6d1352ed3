"""Leave out training examples of directions, so that languages have as few as a study wants."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from shards.directions import parse_directions
from shards.draws import seeded
from shards.errors import InputError
from shards.format.index import Corpus


def keep_examples(corpus: Corpus, most: Mapping[str, int]) -> Corpus:
    """Return the corpus with at most so many training examples of each direction that a pattern names.

    Which ones stay follows from the direction's name, in the order they had: fewer of them are some of the same.
    Examples of augmented documents (`d2tv prepare --augment`) all stay. Of several patterns that name a direction the
    last one counts.
    Raises: InputError for a pattern that names no direction.
    """
    if not most:
        return corpus  # its edges stay mapped: one copy for all ranks of a host
    limits: dict[tuple[int, int], int] = {}
    for pattern, limit in most.items():
        try:
            limits |= dict.fromkeys(parse_directions(pattern, corpus.languages), limit)
        except InputError as error:
            raise InputError(f"corpus.most_examples: {error}") from error
    edges, starts = np.asarray(corpus.edges["train"]), corpus.directions["train"]
    kept = np.ones(len(edges), bool)
    size = len(corpus.languages)
    for (source, target), limit in limits.items():
        direction = target * size + source
        first, last = int(starts[direction]), int(starts[direction + 1])
        own = first + np.flatnonzero(~corpus.is_variant(edges[first:last, 0]))
        order = list(range(len(own)))
        seeded(0, "most_examples", corpus.languages[source], corpus.languages[target]).shuffle(order)
        kept[own[order[limit:]]] = False
    before = np.concatenate(([0], np.cumsum(kept)))
    return replace(
        corpus,
        edges={**corpus.edges, "train": edges[kept]},
        directions={**corpus.directions, "train": before[starts]},
    )
