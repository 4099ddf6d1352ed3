"""ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum of tokenized texts: to the last bit what `rouge-score` computes, faster.

What is counted of a text is counted once, whatever it is compared with, and longest common subsequences are computed a
row of the table at a time, as bits of an integer (Crochemore et al. 2001; Hyyrö 2004).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import TypeVar

#: The three of the paper's tables; ROUGE-Lsum comes beside them.
TYPES = ("rouge1", "rouge2", "rougeL")
ROUGE = (*TYPES, "rougeLsum")
NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}

Gram = TypeVar("Gram")


class Counted:
    """A text's tokens in a row and by sentence, and counted.

    sentences: what ROUGE-Lsum compares, each with a token at least; by default the row is one of them. They need not
    have the tokens of the row.
    """

    __slots__ = ("_masks", "bigrams", "sentences", "tokens", "unigrams")

    def __init__(self, tokens: Sequence[str], sentences: Sequence[Sequence[str]] | None = None) -> None:
        self.tokens = tokens
        self.sentences = ([tokens] if tokens else []) if sentences is None else sentences
        self.unigrams: Mapping[str, int] = Counter(self.tokens)
        self.bigrams: Mapping[tuple[str, str], int] = Counter(pairwise(self.tokens))
        self._masks: dict[str, int] | None = None

    @property
    def masks(self) -> dict[str, int]:
        """Where each word stands in the row, as bits; only references are asked."""
        if self._masks is None:
            self._masks = _masks(self.tokens)
        return self._masks


def rouge(reference: Counted, prediction: Counted) -> tuple[float, float, float, float]:
    """F1 of each of `ROUGE`, between 0 and 1."""
    of_reference, of_prediction = len(reference.tokens), len(prediction.tokens)
    if not of_reference or not of_prediction:
        return 0.0, 0.0, 0.0, 0.0
    longest = f1(_lcs_length(reference, prediction.tokens), of_reference, of_prediction)
    return (
        f1(_shared(reference.unigrams, prediction.unigrams), of_reference, of_prediction),
        f1(_shared(reference.bigrams, prediction.bigrams), of_reference - 1, of_prediction - 1),
        longest,
        longest if _is_one(reference) and _is_one(prediction) else _summary_level(reference, prediction),
    )


def _is_one(counted: Counted) -> bool:
    return len(counted.sentences) == 1 and counted.sentences[0] == counted.tokens


def _summary_level(reference: Counted, prediction: Counted) -> float:
    of_reference, of_prediction = (sum(map(len, counted.sentences)) for counted in (reference, prediction))
    if not of_reference or not of_prediction:
        return 0.0
    return f1(_union_hits(reference, prediction), of_reference, of_prediction)


def f1(hits: int, of_reference: int, of_prediction: int) -> float:
    """In the order in which `rouge-score` rounds."""
    if not hits:
        return 0.0
    precision, recall = hits / of_prediction, hits / of_reference
    return 2 * precision * recall / (precision + recall)


def _shared(reference: Mapping[Gram, int], prediction: Mapping[Gram, int]) -> int:
    hits = 0
    for gram in reference.keys() & prediction.keys():
        one, other = reference[gram], prediction[gram]
        hits += one if one < other else other
    return hits


def _masks(tokens: Sequence[str]) -> dict[str, int]:
    masks: dict[str, int] = {}
    for place, token in enumerate(tokens):
        masks[token] = masks.get(token, 0) | 1 << place
    return masks


def _lcs_length(reference: Counted, tokens: Sequence[str]) -> int:
    full = (1 << len(reference.tokens)) - 1
    row, masks = full, reference.masks
    for token in tokens:
        if token in masks:
            matches = row & masks[token]
            row = (row + matches) | (row - matches)
    return (~row & full).bit_count()


def _union_hits(reference: Counted, prediction: Counted) -> int:
    """Section 3.2 of Lin (2004) as ROUGE 1.5.5 has it: by sentence of the reference, the union of its LCS with each
    sentence of the prediction; no word counts more often than each text has it."""
    left_of_reference, left_of_prediction = (
        Counter(chain.from_iterable(counted.sentences)) for counted in (reference, prediction)
    )
    masks = [_masks(sentence) for sentence in prediction.sentences]
    hits = 0
    for sentence in reference.sentences:
        union: set[int] = set()
        for other, of_other in zip(prediction.sentences, masks, strict=True):
            union.update(_lcs_places(sentence, other, of_other))
        for place in sorted(union):
            token = sentence[place]
            if left_of_prediction[token] > 0 and left_of_reference[token] > 0:
                hits += 1
                left_of_prediction[token] -= 1
                left_of_reference[token] -= 1
    return hits


def _lcs_places(reference: Sequence[str], prediction: Sequence[str], masks: dict[str, int]) -> list[int]:
    """The places in `reference` of one longest common subsequence: the one that `rouge-score` reads out of its table.

    Bit j of row i is 0 where table[i][j + 1] is one more than table[i][j].
    """
    full = row = (1 << len(prediction)) - 1
    rows = [row]
    for token in reference:
        if token in masks:
            matches = row & masks[token]
            row = ((row + matches) | (row - matches)) & full
        rows.append(row)
    i, j, length, places = len(reference), len(prediction), (~row & full).bit_count(), []
    while i and j and length:  # length: table[i][j]
        if reference[i - 1] == prediction[j - 1]:
            places.append(i - 1)
            i, j, length = i - 1, j - 1, length - 1
        # Left where that is more than above; one of the two is as long as this.
        elif rows[i] >> (j - 1) & 1 and (~rows[i - 1] & ((1 << j) - 1)).bit_count() < length:
            j -= 1
        else:
            i -= 1
    return places
