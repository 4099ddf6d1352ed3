"""Find the training document nearest to a held-out one, by the Dice coefficient of their word n-grams (n = 1, 2).

The held-out documents are indexed and the training documents streamed: memory does not grow with the corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.scoring.tokenizers import segment

#: Words of a document that are compared.
MOST_WORDS = 256
#: Training documents in memory at a time.
_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The held-out and the training documents of one source language.

    wanted: (place in `documents`, place in `has_TD`), one for each example.
    has_TD: bool, True where the story of a training document (D) has a summary in a target language (T).
    """

    language: str
    documents: Sequence[str]
    wanted: Sequence[tuple[int, int]]
    training: Sequence[str]
    has_TD: NDArray[np.bool_]


def nearest(task: Task) -> list[int]:
    """Return for each of `wanted` the place in `training` of the nearest document whose story has the summary.

    -1 where no such document has a word in common. Of equals, the first.
    """
    postings: dict[object, list[int]] = {}
    sizes = np.zeros(len(task.documents))
    for place, text in enumerate(task.documents):
        grams = _grams(text, task.language)
        sizes[place] = len(grams)
        for gram in grams:
            postings.setdefault(gram, []).append(place)
    found = {gram: np.array(places) for gram, places in postings.items()}
    best, likeness = [-1] * len(task.wanted), [0.0] * len(task.wanted)
    for begin in range(0, len(task.training), _AT_ONCE):
        some = task.training[begin : begin + _AT_ONCE]
        like_ED = np.zeros((len(task.documents), len(some)))
        for place, text in enumerate(some):
            grams = _grams(text, task.language)
            shared = [found[gram] for gram in grams if gram in found]
            if shared:
                counts = np.bincount(np.concatenate(shared), minlength=len(sizes))
                like_ED[:, place] = 2 * counts / (sizes + len(grams))
        for number, (document, target) in enumerate(task.wanted):
            like_D = like_ED[document] * task.has_TD[target, begin : begin + len(some)]
            place = int(like_D.argmax())
            if like_D[place] > likeness[number]:
                best[number], likeness[number] = begin + place, float(like_D[place])
    return best


def _grams(text: str, language: str) -> set[object]:
    """Return the words and pairs of words at the beginning of a text."""
    words = segment(text, language)[:MOST_WORDS]
    return {*words, *pairwise(words)}
