"""Rearrange groups of examples so that the stories of a group differ: they are each other's negatives."""

import numpy as np

from shards.arrays import Ints

#: How many places to each side are tried that hold examples of the same source: they move no quota, however far.
_SAME = 64
#: How far away, in slots, a place of another source may be: prefixes that end in between are one off their quotas.
_OTHER = 128
#: How many places after so many failures in a block: a target of a few stories has none that do.
_PATIENCE, _FEW = 200, 2


def keep_apart(story: Ints, source: Ints, passes: Ints) -> Ints:
    """Return positions 0 .. n-1 rearranged, (groups, G), so that no story comes twice in a group where possible.

    story: (groups, G).  source, passes: the same shape; examples of one source must keep the order of their
    passes. Each clash is mended by one exchange that makes no new one, of examples of one source where possible.
    """
    groups, size = story.shape
    position = np.arange(groups * size).reshape(groups, size)
    ordered = np.sort(story, axis=1)
    clashing = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if not len(clashing):
        return position
    table = _Table(story, source.ravel(), passes.ravel())
    for group in clashing.tolist():
        table.mend(group)
    return table.position.reshape(groups, size)


class _Table:
    """The groups. Few of them clash, so they stay arrays, and become lists only where they are looked into."""

    def __init__(self, story: Ints, source: Ints, passes: Ints) -> None:
        self.size = story.shape[1]
        self.position = np.arange(story.size)
        self.failures = 0
        self._story, self._stories = story, dict[int, list[int]]()
        # Places by source and pass, in order; of each place, where it is there, and of each run, its window.
        order, run, low, high = _runs(source, passes)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        self.place_of = self.position.data
        self.order, self.rank, self.run, self.low, self.high = order.data, rank.data, run.data, low.data, high.data

    def stories(self, group: int) -> list[int]:
        """Return the group's stories as they are now: the caller may exchange them."""
        if group not in self._stories:
            self._stories[group] = self._story[group].tolist()
        return self._stories[group]

    def mend(self, group: int) -> None:
        first, mine = group * self.size, self.stories(group)
        for exchange in (self._with_same_source, self._with_other_source):
            clashes = False
            for here, story in enumerate(tuple(mine), first):
                if mine.count(story) > 1 and not exchange(here):
                    clashes = True
            if not clashes:
                return

    def _with_same_source(self, here: int) -> bool:
        """Exchange `here` with a place of its source and pass, the nearest that will do."""
        order, run, rank = self.order, self.run, self.rank[here]
        mine = run[rank]
        for distance in range(1, (_SAME if self.failures < _PATIENCE else _FEW) + 1):
            for near in (rank - distance, rank + distance):
                if 0 <= near < len(order) and run[near] == mine and self._exchange(here, order[near]):
                    return True
        return False

    def _with_other_source(self, here: int) -> bool:
        """Exchange `here` with the nearest place that will do, and that the order of the passes allows."""
        run = self.run[self.rank[here]]
        low, high = self.low[run], self.high[run]
        for distance in range(1, (_OTHER if self.failures < _PATIENCE else _FEW) + 1):
            for partner in (here - distance, here + distance):
                if low <= partner <= high:
                    other = self.run[self.rank[partner]]
                    if self.low[other] <= here <= self.high[other] and self._exchange(here, partner):
                        return True
        self.failures += 1
        return False

    def _exchange(self, here: int, partner: int) -> bool:
        """Exchange two places, unless they are of one group or there would be a new clash."""
        (group, place), (other, elsewhere) = divmod(here, self.size), divmod(partner, self.size)
        mine, theirs = self.stories(group), self.stories(other)
        if group == other or mine[place] in theirs or theirs[elsewhere] in mine:
            return False
        mine[place], theirs[elsewhere] = theirs[elsewhere], mine[place]
        for values in (self.place_of, self.rank):
            values[here], values[partner] = values[partner], values[here]
        self.order[self.rank[here]], self.order[self.rank[partner]] = here, partner
        return True


def _runs(source: Ints, passes: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Return positions by source and pass (n,), the run of each (n,), and of every run the first and the last position.

    A run is of one source and pass; its examples may move between the two positions.

    The passes of a source must stay one after the other: the window of a pass ends where the next one begins.
    """
    order = np.argsort(source.astype(np.uint16), kind="stable")  # of so few bits, ten times faster
    by_source, by_pass = source[order], passes[order]
    same_source = by_source[1:] == by_source[:-1]
    begins = np.r_[True, ~same_source | (by_pass[1:] != by_pass[:-1])]
    starts = np.flatnonzero(begins)
    follows = by_source[starts[1:]] == by_source[starts[1:] - 1]  # a later pass of the same source
    first = order[starts]
    low = np.r_[0, np.where(follows, first[1:], 0)]
    high = np.r_[np.where(follows, first[1:] - 1, len(source) - 1), len(source) - 1]
    return order, np.cumsum(begins) - 1, low, high
