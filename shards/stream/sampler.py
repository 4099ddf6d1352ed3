"""Map slot k to an example, as a pure function of (seed, corpus, mixture, k). There is no state but an integer.

Three maps, each with random access:
1. group g -> (target language, index of the group within that target), by exact quotas;
2. the u-th slot of a target -> (source language, index of the example within that direction), likewise;
3. the c-th example of a direction with E edges -> edge, by a keyed permutation of pass c // E.

Below a target, blocks of whole groups are rearranged so that the stories of a group differ; a block is a function
of its number alone, so random access stays. A change of the mixture begins a new segment, in which every direction
goes on with the examples that the segment before did not come to.
"""

import functools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.arrays import Ints
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.apart import keep_apart
from shards.stream.mixture import Segment, Weighting, direction_weights
from shards.stream.permutation import key_of, permute
from shards.stream.quotas import Quotas

#: Slots a block: large enough that numpy's cost a call is small beside it.
_BLOCK = 16384


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Examples: edges of stories, in consecutive groups. Arrays are (groups, G) but for `number`, (groups,).

    `source` and `target` are article rows. `story` repeats inside a group only where it cannot be helped.
    """

    number: Ints
    source: Ints
    target: Ints
    story: Ints

    @property
    def slot(self) -> Ints:
        """Return where each example is in the stream."""
        size = self.source.shape[1]
        slot: Ints = self.number[:, None] * size + np.arange(size)
        return slot


class _Picks(NamedTuple):
    """A block of one target's groups before it is looked up, arrays (groups of the block, G)."""

    language: Ints  # of the source
    pick: Ints  # index of the example within its direction and the segment


class _Progress(NamedTuple):
    """Progress of the directions when a segment begins, a pure function of the earlier segments.

    A direction's first examples of the segment are the `skipped` ones, then come `base`, `base` + 1, ...
    """

    base: Ints  # (L * L,) by target * L + source
    skipped: dict[int, Ints]


class Sampler:
    """The infinite, seeded stream of examples of one split, in groups of `group_size` slots.

    Cost: about a microsecond a slot, the same at slot 0 and at slot 10^10.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        split: str,
        mixture: Sequence[Segment] | Weighting,
        seed: int,
        group_size: int,
    ) -> None:
        """mixture: one weighting, or the segments of a run (`shards.stream.mixture.segments`)."""
        if group_size < 1:
            raise InputError(f"group_size must be at least 1, got {group_size}")
        if isinstance(mixture, Weighting):
            mixture = (Segment(first=0, left=None, weighting=mixture),)
        size = len(corpus.languages)
        progress = _Progress(np.zeros(size * size, np.int64), {})
        self.seed, self.group_size = seed, group_size
        self._drawn = group_size  # slots of a group drawn here; shards/stream/bundles.py adds to them
        self._segments: list[_Stream] = []
        for number, segment in enumerate(mixture):
            stream = _Stream(corpus, split, segment, seed, number, group_size, progress)
            self._segments.append(stream)
            if number + 1 < len(mixture):
                progress = stream.progress(mixture[number + 1].first)
        self._ends = [segment.first for segment in mixture[1:]]

    def groups(self, start: int, count: int) -> Groups:
        """Return groups start .. start + count - 1."""
        rows = np.empty((count, 3, self._drawn), np.int64)
        for offset, number in enumerate(range(start, start + count)):
            rows[offset] = self._segments[bisect_right(self._ends, number)].group(number)
        source, target, story = rows.swapaxes(0, 1)
        return Groups(number=np.arange(start, start + count), source=source, target=target, story=story)

    def shares(self, group: int = 0) -> NDArray[np.float64]:
        """Return the quota of every direction at a group, (L, L) by [target, source]: what the splits really give."""
        return self._segments[bisect_right(self._ends, group)].shares()

    def slots(self, groups: int) -> NDArray[np.float64]:
        """Return the slots that each direction has in the first `groups` groups by its quota, (L, L) as `shares`."""
        starts = (0, *(end for end in self._ends if end < groups))
        parts = [
            (until - first) * self._drawn * self._segments[number].shares()
            for number, (first, until) in enumerate(zip(starts, (*starts[1:], groups), strict=True))
        ]
        return np.asarray(np.sum(parts, axis=0))


class _Stream:
    """The groups of one segment."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        segment: Segment,
        seed: int,
        number: int,
        group_size: int,
        progress: _Progress,
    ) -> None:
        self._segment, self._seed, self._group_size, self._progress = segment, seed, group_size, progress
        self._size = size = len(corpus.languages)
        self._block_groups = max(1, _BLOCK // group_size)
        self._edges = np.asarray(corpus.edges[split])
        self._starts = corpus.directions[split]
        # Side by side: a story read out of the records would be a cache miss each.
        self._story_of = np.ascontiguousarray(corpus.articles["story"])
        taken = progress.base - np.bincount(
            list(progress.skipped), [len(skipped) for skipped in progress.skipped.values()], size * size
        ).astype(np.int64)
        weights_TS = direction_weights(
            corpus.direction_counts(split),
            corpus.languages,
            segment.weighting,
            slots=None if segment.left is None else segment.left * group_size,
            taken_TS=taken.reshape(size, size),
        )
        random = np.random.default_rng([seed, 0x5EED, number])
        self._targets = Quotas.steadiest(weights_TS.sum(axis=1), random)
        self._sources = [Quotas(row, random) if row.any() else None for row in weights_TS]
        # A stream is read in order, so one block of the turns and one of each target are in use.
        self._turns: tuple[int, list[int], list[int]] = (-1, [], [])
        self._blocks: dict[int, tuple[int, NDArray[np.int32]]] = {}

    def group(self, number: int) -> NDArray[np.int32]:
        """Return source rows, target rows and stories of a group, (3, G)."""
        turn, offset = divmod(number - self._segment.first, _BLOCK)
        if self._turns[0] != turn:
            of_turn, nth_of_turn = self._targets.picks(turn * _BLOCK, _BLOCK)
            self._turns = (turn, of_turn.tolist(), nth_of_turn.tolist())
        target, nth = self._turns[1][offset], self._turns[2][offset]
        block, row = divmod(nth, self._block_groups)
        kept = self._blocks.get(target)
        if kept is None or kept[0] != block:
            self._blocks[target] = kept = (block, self._block(target, block)[0])
        rows: NDArray[np.int32] = kept[1][row]
        return rows

    @functools.cached_property
    def _shares(self) -> NDArray[np.float64]:
        shares = np.zeros((self._size, self._size))
        for target, share in enumerate(self._targets.shares()):
            sources = self._sources[target]
            if sources is not None:
                shares[target] = share * sources.shares()
        return shares

    def shares(self) -> NDArray[np.float64]:
        return self._shares.copy()

    def progress(self, end: int) -> _Progress:
        """Return where a segment that begins at group `end` takes up each direction.

        Whole blocks leave no gap. In a target's last, partial block the examples of its first groups are not the
        first examples of their directions, because the block was rearranged: what they passed over is skipped.
        """
        base, skipped = self._progress.base.copy(), dict(self._progress.skipped)
        groups_T = self._targets.counts(end - self._segment.first)
        for target in np.flatnonzero(groups_T).tolist():
            sources = self._sources[target]
            assert sources is not None
            block, rest = divmod(int(groups_T[target]), self._block_groups)
            whole_S = sources.counts(block * self._block_groups * self._group_size)
            partial = self._block(target, block)[1] if rest else None
            for source in np.flatnonzero(sources.shares()).tolist():
                direction, done = target * self._size + source, int(whole_S[source])
                drawn = np.zeros(0, np.int64)
                if partial is not None:
                    drawn = partial.pick[:rest][partial.language[:rest] == source]
                reached = int(drawn.max(initial=done - 1)) + 1
                passed_over = np.setdiff1d(np.arange(done, reached), drawn)
                before = self._progress.skipped.get(direction, np.zeros(0, np.int64))
                left = np.concatenate([self._example(direction, passed_over), before[reached:]])
                base[direction] += max(0, reached - len(before))
                skipped.pop(direction, None)
                if len(left):
                    skipped[direction] = left
        return _Progress(base, skipped)

    def _block(self, target: int, block: int) -> tuple[NDArray[np.int32], _Picks]:
        """Return one block of a target's groups, stories apart in every group: source rows, target rows and stories,
        (groups, 3, G), and the picks they come from."""
        sources = self._sources[target]
        assert sources is not None
        shape = (self._block_groups, self._group_size)
        slots = self._block_groups * self._group_size
        language, pick = sources.picks(block * slots, slots)
        direction = target * self._size + language
        example = self._progress.base[direction] + pick
        for number in np.unique(direction).tolist() if self._progress.skipped else ():
            if number in self._progress.skipped:
                here = direction == number
                example[here] = self._example(number, pick[here])
        first = self._starts[direction]
        size = self._starts[direction + 1] - first
        passes = example // size
        edge = first + permute(example % size, size, key_of(self._seed, direction, passes))
        pairs = self._edges[edge]
        story = self._story_of[pairs[:, 1]].astype(np.int32)
        order = keep_apart(story.reshape(shape), language.reshape(shape), passes.reshape(shape))
        # A group's own lie side by side, so that to read it out is one cache miss.
        rows = np.stack([pairs[:, 0][order], pairs[:, 1][order], story[order]], axis=1)
        return rows, _Picks(language[order], pick[order])

    def _example(self, direction: int, pick: Ints) -> Ints:
        """Return the pick-th example of the segment, counted from the run's start."""
        skipped = self._progress.skipped.get(direction)
        if skipped is None:
            return np.asarray(self._progress.base[direction] + pick)
        late = self._progress.base[direction] + pick - len(skipped)
        return np.where(pick < len(skipped), skipped[np.minimum(pick, len(skipped) - 1)], late)
