"""Pick from weighted items without end, so that each prefix of the picks holds every item's share.

A binary tree of exact splits: the n-th pick of a node goes to its left child when round(p * n) rises there, so a
child is never more than half a pick off its share of its node's picks. Like weights meet first, so shares are near
a half, where the errors of the levels above are halved: a leaf is off by little more than one pick at any depth.
Which of like weights meet is the seed's to say: else all seeds would have nearly the same sequence.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from shards.arrays import Ints

_BITS = 30  # a split's share is a multiple of 2^-30
_ONE = 1 << _BITS
_HALF = _ONE >> 1
#: How far apart, as factors, weights are that count as like.
_LIKE = (0.9, 1.1)


class Quotas:
    """The sequence for weights (K,): a pure function of the weights and the generator's state. Random access."""

    def __init__(self, weights: NDArray[np.float64], random: np.random.Generator) -> None:
        """At least one weight must be positive; an item of weight 0 is never picked."""
        self.size = len(weights)
        # An inner node is (left, right, share of the left in 2^-30), a leaf (-1, -1, item).
        self._nodes: list[tuple[int, int, int]] = []
        heap: list[tuple[float, int, float]] = []  # rank among the waiting, node, weight
        for item in np.flatnonzero(weights).tolist():
            heap.append((float(weights[item]) * random.uniform(*_LIKE), len(self._nodes), float(weights[item])))
            self._nodes.append((-1, -1, item))
        heapq.heapify(heap)
        while len(heap) > 1:
            first, second = heapq.heappop(heap), heapq.heappop(heap)
            if random.random() < 0.5:
                first, second = second, first
            total = first[2] + second[2]
            share = min(max(round(first[2] / total * _ONE), 1), _ONE - 1)
            heapq.heappush(heap, (total * random.uniform(*_LIKE), len(self._nodes), total))
            self._nodes.append((first[1], second[1], share))
        self._root = heap[0][1]

    @classmethod
    def steadiest(cls, weights: NDArray[np.float64], random: np.random.Generator, tries: int = 64) -> "Quotas":
        """Return the one of several whose items can be the least off their share."""
        return min((cls(weights, random) for _ in range(tries)), key=cls.largest_error)

    def largest_error(self) -> float:
        """Return a bound on how far any item is ever off its share, in picks: half a pick for the last split, and the
        item's part of what its node was off."""
        worst = 0.0
        stack = [(self._root, 0.0)]
        while stack:
            node, error = stack.pop()
            left, right, value = self._nodes[node]
            if left < 0:
                worst = max(worst, error)
            else:
                share = value / _ONE
                stack += [(left, share * error + 0.5), (right, (1 - share) * error + 0.5)]
        return worst

    def picks(self, start: int, count: int) -> tuple[Ints, Ints]:
        """Return picks start .. start + count - 1: each one's item, and how many picks that item had before."""
        every = np.arange(count + 1)
        stack: list[tuple[int, int, Ints]] = [(self._root, start, every[:-1])]
        leaves: list[tuple[int, int, Ints]] = []
        while stack:
            node, before, places = stack.pop()
            left, right, value = self._nodes[node]
            if left < 0:
                leaves.append((value, before, places))
                continue
            # round(p * n) for n = before ... in exact integers: the large part by Python's, the rest in int64.
            left_before, rest = divmod(value * before + _HALF, _ONE)
            rounded = every[: len(places) + 1] * value
            rounded += rest
            rounded >>= _BITS
            goes_left = rounded[1:] != rounded[:-1]
            to_left = places[goes_left]
            if len(to_left):
                stack.append((left, left_before, to_left))
            if len(to_left) < len(places):
                stack.append((right, before - left_before, places[~goes_left]))
        values, befores, parts = zip(*leaves, strict=True)
        lengths = np.array([len(part) for part in parts])
        places = np.concatenate(parts)
        item, nth = np.empty(count, np.int64), np.empty(count, np.int64)
        item[places] = np.repeat(values, lengths)
        nth[places] = every[:-1] + np.repeat(befores - (np.cumsum(lengths) - lengths), lengths)
        return item, nth

    def counts(self, picks: int) -> Ints:
        """Return how many of the first `picks` picks each item has, (K,)."""
        counts = np.zeros(self.size, np.int64)
        stack = [(self._root, picks)]
        while stack:
            node, count = stack.pop()
            left, right, value = self._nodes[node]
            if left < 0:
                counts[value] = count
            else:
                of_left = (value * count + _HALF) >> _BITS
                stack += [(left, of_left), (right, count - of_left)]
        return counts

    def shares(self) -> NDArray[np.float64]:
        """Return what each item really gets, (K,)."""
        shares = np.zeros(self.size)
        stack = [(self._root, 1.0)]
        while stack:
            node, share = stack.pop()
            left, right, value = self._nodes[node]
            if left < 0:
                shares[value] = share
            else:
                stack += [(left, share * value / _ONE), (right, share * (1 - value / _ONE))]
        return shares
