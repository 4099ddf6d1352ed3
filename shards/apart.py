"""Rearranging groups of examples so that the stories of a group differ: they are each other's negatives."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: How far away, in groups, a place for an example is looked for. Near places keep the quotas of prefixes.
_FARTHEST = 64
#: And how far after so many failures in a block: a target of a few stories has no such place.
_PATIENCE, _NEAR = 200, 1


def keep_apart(story: Ints, source: Ints, passes: Ints) -> Ints:
    """Positions 0 .. n-1 rearranged, (groups, G), so that no story comes twice in a group where possible.

    story: (groups, G).  source, passes: the same shape; examples of one source must keep the order of their
    passes. Each clash is mended by one exchange with the nearest group that takes it without a new clash.
    """
    groups, size = story.shape
    position = np.arange(groups * size).reshape(groups, size)
    ordered = np.sort(story, axis=1)
    clashing = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if not len(clashing):
        return position
    low, high = windows(source.ravel(), passes.ravel())
    table = _Table(story, low, high)
    for group in clashing.tolist():
        table.mend(group)
    return np.array(table.position).reshape(groups, size)


class _Table:
    """The groups as lists: single elements are read and exchanged, which arrays are slow at."""

    def __init__(self, story: Ints, low: Ints, high: Ints) -> None:
        self.groups, self.size = story.shape
        self.story: list[list[int]] = story.tolist()
        self.low: list[int] = low.tolist()
        self.high: list[int] = high.tolist()
        self.position = list(range(story.size))
        self.failures = 0

    def mend(self, group: int) -> None:
        mine = self.story[group]
        for place in range(self.size):
            if mine.count(mine[place]) < 2:
                continue
            for distance in range(1, (_FARTHEST if self.failures < _PATIENCE else _NEAR) + 1):
                if self._exchange(group, place, group - distance) or self._exchange(group, place, group + distance):
                    break
            else:
                self.failures += 1

    def _exchange(self, group: int, place: int, other: int) -> bool:
        """Exchange with any place of group `other` that makes no clash there or here, and breaks no window."""
        if not 0 <= other < self.groups:
            return False
        mine, theirs = self.story[group], self.story[other]
        if mine[place] in theirs:
            return False
        here = group * self.size + place
        if not self.low[here] <= other * self.size + self.size - 1 or not other * self.size <= self.high[here]:
            return False
        for elsewhere in range(self.size):
            there = other * self.size + elsewhere
            if (
                theirs[elsewhere] not in mine
                and self.low[here] <= there <= self.high[here]
                and self.low[there] <= here <= self.high[there]
            ):
                mine[place], theirs[elsewhere] = theirs[elsewhere], mine[place]
                for values in (self.low, self.high, self.position):
                    values[here], values[there] = values[there], values[here]
                return True
        return False


def windows(source: Ints, passes: Ints) -> tuple[Ints, Ints]:
    """Per position the first and the last one its example may move to, (n,) each.

    The passes of a source must stay one after the other: the window of a pass ends where the next one begins.
    """
    order = np.argsort(source, kind="stable")
    by_source, by_pass = source[order], passes[order]
    same_source = by_source[1:] == by_source[:-1]
    starts = np.flatnonzero(np.r_[True, ~same_source | (by_pass[1:] != by_pass[:-1])])
    follows = by_source[starts[1:]] == by_source[starts[1:] - 1]  # a later pass of the same source
    first = order[starts]
    run_low = np.r_[0, np.where(follows, first[1:], 0)]
    run_high = np.r_[np.where(follows, first[1:] - 1, len(source) - 1), len(source) - 1]
    lengths = np.diff(np.r_[starts, len(source)])
    low, high = np.empty_like(order), np.empty_like(order)
    low[order], high[order] = np.repeat(run_low, lengths), np.repeat(run_high, lengths)
    return low, high
