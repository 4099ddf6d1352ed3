"""Slot k -> example, as a pure function of (seed, corpus, mixture, k). There is no state but an integer.

Three maps, each with random access:
1. group g -> (target language, the how-manieth group of that target), by a tree of exact splits;
2. the u-th slot of a target -> (source language, the how-manieth example of that direction), likewise;
3. the c-th example of a direction with E edges -> edge, by a keyed permutation of pass c // E.

A split hands the t-th pick of a node to its left child when round(p * t) rises there, so every prefix
holds each child's share to within half a pick. Below a target, blocks of whole groups are then rearranged
so that the stories of a group differ; a block is a function of its number alone, so random access stays.
"""

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.index import Corpus
from shards.mixture import MixtureConfig, direction_weights

Ints = NDArray[np.int64]

_BITS = 30  # a split's share is a multiple of 2^-30, so the arithmetic below is exact in int64
_ONE = 1 << _BITS


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Examples: edges of stories, in consecutive groups. Arrays are (groups, G) but for `number`, (groups,).

    `source` and `target` are article rows. `story` repeats inside a group only where it cannot be helped.
    """

    number: Ints
    source: Ints
    target: Ints
    story: Ints


class Sampler:
    """The infinite, seeded stream of examples of one split, in groups of `group_size` slots.

    Cost: a few microseconds a slot, the same at slot 0 and at slot 10^10.
    """

    def __init__(self, corpus: Corpus, *, split: str, mixture: MixtureConfig, seed: int, group_size: int) -> None:
        if group_size < 1:
            raise InputError(f"group_size must be at least 1, got {group_size}")
        weights_TS = direction_weights(corpus.direction_counts(split), corpus.languages, mixture)
        self.group_size = group_size
        self.block_groups = max(1, 512 // group_size)
        self._size = len(corpus.languages)
        self._edges = corpus.edges[split]
        self._starts = corpus.directions[split]
        self._story_of = corpus.articles["story"]
        self._seed = seed
        forest = _Forest(seed)
        self._target_root = forest.plant(weights_TS.sum(axis=1))
        self._source_roots = [forest.plant(row) if row.sum() > 0 else -1 for row in weights_TS]
        self._forest = forest.freeze()
        self._block = lru_cache(maxsize=4 * self._size)(self._compute_block)

    def groups(self, start: int, count: int) -> Groups:
        """Groups start .. start + count - 1."""
        number = np.arange(start, start + count, dtype=np.int64)
        target, nth = self._forest.locate(np.full(count, self._target_root), number)
        edges = np.empty((count, self.group_size), dtype=np.int64)
        for row in range(count):
            block, place = divmod(int(nth[row]), self.block_groups)
            edges[row] = self._block(int(target[row]), block)[place]
        pairs = self._edges[edges]
        source, target_row = pairs[..., 0].astype(np.int64), pairs[..., 1].astype(np.int64)
        return Groups(
            number=number, source=source, target=target_row, story=self._story_of[target_row].astype(np.int64)
        )

    def shares(self) -> NDArray[np.float64]:
        """The quota of every direction, (L, L) by [target, source]: what the splits really give."""
        shares = np.zeros((self._size, self._size))
        for target, share in self._forest.leaf_shares(self._target_root).items():
            for source, inner in self._forest.leaf_shares(self._source_roots[target]).items():
                shares[target, source] = share * inner
        return shares

    def _compute_block(self, target: int, block: int) -> Ints:
        """Edges of one block of a target's groups, (block_groups, G), stories apart inside every group."""
        slots = self.block_groups * self.group_size
        slot = np.arange(block * slots, (block + 1) * slots, dtype=np.int64)
        source, nth = self._forest.locate(np.full(slots, self._source_roots[target]), slot)
        direction = target * self._size + source
        size = self._starts[direction + 1] - self._starts[direction]
        passes = nth // size
        edge = self._starts[direction] + _permute(nth % size, size, _mix(self._seed, direction, passes))
        story = self._story_of[self._edges[edge, 1]].astype(np.int64).reshape(-1, self.group_size)
        low, high = _windows(source, passes)
        return edge[_keep_apart(story, low.reshape(story.shape), high.reshape(story.shape))]


class _Forest:
    """Binary trees of exact splits in flat arrays; a leaf is its own left child and takes every pick."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 0x5EED])
        self._left: list[int] = []
        self._right: list[int] = []
        self._share: list[int] = []
        self._leaf: list[int] = []

    def plant(self, weights: NDArray[np.float64]) -> int:
        """A tree over the indices of the positive weights; its root. Like weights meet first, so that
        splits are near a half, where the error of the levels above is halved."""
        heap: list[tuple[float, int, int]] = []
        for index in self._random.permutation(np.flatnonzero(weights)):
            node = self._add(share=_ONE, leaf=int(index))
            self._left[node] = self._right[node] = node
            heap.append((float(weights[index]), len(heap), node))
        heapq.heapify(heap)
        order = len(heap)
        while len(heap) > 1:
            light, heavy = heapq.heappop(heap), heapq.heappop(heap)
            first, second = (light, heavy) if self._random.random() < 0.5 else (heavy, light)
            total = first[0] + second[0]
            node = self._add(share=min(max(round(first[0] / total * _ONE), 1), _ONE - 1), leaf=-1)
            self._left[node], self._right[node] = first[2], second[2]
            heapq.heappush(heap, (total, order, node))
            order += 1
        return heap[0][2]

    def _add(self, *, share: int, leaf: int) -> int:
        for column, value in ((self._left, -1), (self._right, -1), (self._share, share), (self._leaf, leaf)):
            column.append(value)
        return len(self._leaf) - 1

    def freeze(self) -> "_Forest":
        self.left, self.right = np.array(self._left), np.array(self._right)
        self.share, self.leaf = np.array(self._share, dtype=np.int64), np.array(self._leaf)
        return self

    def locate(self, root: Ints, pick: Ints) -> tuple[Ints, Ints]:
        """For the pick-th draw (from 0) of each root: the leaf it goes to, and how many that leaf had before."""
        node, pick = root.copy(), pick.copy()
        while (self.leaf[node] < 0).any():
            share = self.share[node]
            before = _rounded_share(share, pick)
            goes_left = _rounded_share(share, pick + 1) > before
            node = np.where(goes_left, self.left[node], self.right[node])
            pick = np.where(goes_left, before, pick - before)
        return self.leaf[node], pick

    def leaf_shares(self, root: int) -> dict[int, float]:
        shares: dict[int, float] = {}
        stack = [(root, 1.0)]
        while stack:
            node, share = stack.pop()
            if self._leaf[node] >= 0:
                shares[self._leaf[node]] = share
            else:
                stack.append((self._left[node], share * self._share[node] / _ONE))
                stack.append((self._right[node], share * (1 - self._share[node] / _ONE)))
        return shares


def _rounded_share(share: Ints, pick: Ints) -> Ints:
    """round(share / 2^30 * pick), exact: the product is taken in two halves that fit int64."""
    low = pick & (_ONE - 1)
    return np.asarray(share * (pick >> _BITS) + ((share * low + (_ONE >> 1)) >> _BITS))


def _mix(seed: int, *values: Ints) -> NDArray[np.uint64]:
    """A 64-bit key of the seed and the values (splitmix64's finaliser, value by value)."""
    key: NDArray[np.uint64] = np.full(values[0].shape, np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    for value in values:
        key = _scramble(key ^ (value.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    return key


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _permute(position: Ints, size: Ints, key: NDArray[np.uint64]) -> Ints:
    """position -> another position below size: a keyed bijection of each range(size).

    A four-round Feistel network on the next even number of bits, walked until it falls inside the range
    (Black and Rogaway's cycle walking), so the whole permutation is never written down.
    """
    bits = np.ceil(np.log2(np.maximum(size, 2))).astype(np.uint64)
    half = (bits + np.uint64(1)) // np.uint64(2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    value = position.astype(np.uint64)
    outside = np.arange(value.size)
    while outside.size:
        h, m, k = half[outside], mask[outside], key[outside]
        left, right = value[outside] >> h, value[outside] & m
        for step in range(4):
            left, right = right, left ^ (_scramble(right + k + np.uint64(step)) & m)
        value[outside] = (left << h) | right
        outside = outside[value[outside] >= size[outside].astype(np.uint64)]
    return value.astype(np.int64)


def _windows(source: Ints, passes: Ints) -> tuple[Ints, Ints]:
    """Per slot of a block the first and the last slot its example may move to, (n,) each.

    The passes of a direction must stay one after the other: the window of a pass ends where the next one begins.
    """
    order = np.lexsort((np.arange(len(source)), source))
    by_source, by_pass = source[order], passes[order]
    same_source = by_source[1:] == by_source[:-1]
    starts = np.flatnonzero(np.r_[True, ~same_source | (by_pass[1:] != by_pass[:-1])])
    follows = by_source[starts[1:]] == by_source[starts[1:] - 1]  # a later pass of the same direction
    first = order[starts]
    run_low = np.r_[0, np.where(follows, first[1:], 0)]
    run_high = np.r_[np.where(follows, first[1:] - 1, len(source) - 1), len(source) - 1]
    lengths = np.diff(np.r_[starts, len(source)])
    low, high = np.empty_like(order), np.empty_like(order)
    low[order], high[order] = np.repeat(run_low, lengths), np.repeat(run_high, lengths)
    return low, high


def _keep_apart(story: Ints, low: Ints, high: Ints) -> Ints:
    """Positions 0 .. n-1 rearranged, (groups, G), so that no story comes twice in a group where possible.

    Each clash is mended by one exchange with the nearest group that takes it without a new clash; low and high
    are the first and the last position that an example may move to.
    """
    groups, size = story.shape
    here = np.arange(groups * size).reshape(groups, size)
    position = here.copy()
    ordered = np.sort(story, axis=1)
    story, low, high = story.copy(), low.copy(), high.copy()
    for group in np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)):
        for place in range(size):
            mine, now = story[group, place], group * size + place
            if (story[group] == mine).sum() < 2:
                continue
            others = np.delete(story[group], place)
            fits = (low <= now) & (now <= high) & (low[group, place] <= here) & (here <= high[group, place])
            fits &= ~np.isin(story, others) & ~(story == mine).any(axis=1)[:, None]
            candidates = np.argwhere(fits)
            if not len(candidates):
                continue
            there = tuple(candidates[np.argmin(np.abs(candidates[:, 0] - group))])
            for array in (story, low, high, position):
                array[group, place], array[there] = array[there], array[group, place]
    return position
