"""Sample story-batched groups: each example of the plain stream brings further sources of its target article.

A group of G slots holds G / k anchors, which are a group of the plain stream of groups of G / k; each anchor takes k
consecutive slots, itself first. So a target document and its summary serve k rows of a micro-batch, and so do images
that a story's articles share. Which sources an anchor brings is a function of (seed, the anchor's number, the mixture's
directions there) alone, so random access stays, and there is no state but an integer.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shards.arrays import Ints
from shards.format.index import Corpus
from shards.stream.mixture import Segment, Weighting
from shards.stream.permutation import key_of
from shards.stream.sampler import Groups, Sampler

#: Slots that are made at a time: enough that numpy's cost a call is small beside it, and few enough that a rank which
#: asks for one micro-batch in a thousand makes little in vain.
_CHUNK = 2048
#: Bits of a candidate's draw: below the number of its anchor in one integer, which a chunk's anchors fit above.
_DRAW_BITS = 48


class BundledSampler(Sampler):
    """The infinite, seeded stream of one split, in groups of `group_size` slots, `sources_per_target` a target article.

    An anchor's further sources are distinct edges of its target article in directions that the mixture gives a share
    where the anchor stands, drawn without a preference among them; where there are too few, all of them repeat in
    their order until the anchor has its k slots.

    The mixture is of anchors: quotas, passes, `max_passes`, changes and `shares` count them and not what they bring.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        split: str,
        mixture: Sequence[Segment] | Weighting,
        seed: int,
        group_size: int,
        sources_per_target: int,
    ) -> None:
        """As `Sampler`; `group_size` counts slots, and `sources_per_target` divides it."""
        assert group_size % sources_per_target == 0
        anchors = group_size // sources_per_target
        super().__init__(corpus, split=split, mixture=mixture, seed=seed, group_size=anchors)
        self.group_size, self._copies = group_size, sources_per_target
        self._corpus, self._split = corpus, split
        self._allowed = [self.shares(first) > 0 for first in (0, *self._ends)]
        self._sources: dict[bytes, _Sources] = {}  # by the directions that are allowed
        self._chunk_groups = max(1, _CHUNK // group_size)
        self._chunk: tuple[int, Ints] = (-1, np.zeros(0, np.int64))

    def groups(self, start: int, count: int) -> Groups:
        """Return groups start .. start + count - 1."""
        rows = np.empty((count, 3, self.group_size), np.int64)
        done = 0
        while done < count:
            chunk, offset = divmod(start + done, self._chunk_groups)
            if self._chunk[0] != chunk:
                self._chunk = (chunk, self._make(chunk * self._chunk_groups))
            part = self._chunk[1][offset : offset + count - done]
            rows[done : done + len(part)] = part
            done += len(part)
        source, target, story = rows.swapaxes(0, 1)
        return Groups(number=np.arange(start, start + count), source=source, target=target, story=story)

    def _make(self, first: int) -> Ints:
        """Source rows, target rows and stories of the chunk that begins at group `first`, (groups, 3, G)."""
        end = first + self._chunk_groups
        rows = np.empty((self._chunk_groups, 3, self.group_size), np.int64)
        cuts = self._ends[bisect_right(self._ends, first) : bisect_left(self._ends, end)]
        for begin, until in pairwise((first, *cuts, end)):
            part = rows[begin - first : until - first]
            anchors = super().groups(begin, until - begin)
            number = begin * self._drawn + np.arange(anchors.source.size)
            bundles = self._sources_at(begin).bundles(
                anchors.source.ravel(), anchors.target.ravel(), number, self.seed, self._copies
            )
            part[:, 0] = bundles.reshape(-1, self.group_size)
            part[:, 1] = anchors.target.repeat(self._copies, axis=1)
            part[:, 2] = anchors.story.repeat(self._copies, axis=1)
        return rows

    def _sources_at(self, group: int) -> "_Sources":
        """Return the edges that the mixture allows at a group, looked up when a group of it is made."""
        allowed_TS = self._allowed[bisect_right(self._ends, group)]
        key = allowed_TS.tobytes()
        if key not in self._sources:
            self._sources[key] = _Sources.of(self._corpus, self._split, allowed_TS)
        return self._sources[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sources:
    """The edges of a split by target article: those of article t are source[starts[t] : starts[t + 1]].

    Four bytes an edge and eight an article.
    """

    starts: Ints  # (articles + 1,)
    source: NDArray[np.int32]  # (edges,), article rows

    @classmethod
    def of(cls, corpus: Corpus, split: str, allowed_TS: NDArray[np.bool_]) -> "_Sources":
        """Collect the edges of the directions that are allowed, (L, L) by [target, source]."""
        kept = np.repeat(allowed_TS.ravel(), np.diff(corpus.directions[split]))
        source, target = np.asarray(corpus.edges[split])[kept].T
        starts = np.zeros(len(corpus.articles) + 1, np.int64)
        np.cumsum(np.bincount(target, minlength=len(corpus.articles)), out=starts[1:])
        return cls(starts=starts, source=source[np.argsort(target, kind="stable")])

    def bundles(self, source: Ints, target: Ints, number: Ints, seed: int, copies: int) -> NDArray[np.int32]:
        """Return (anchors, copies) source rows: the anchor's own, then others of its target in random order.

        source, target, number: (anchors,), article rows and the anchors' places in the stream.
        """
        first = self.starts[target]
        candidates = self.starts[target + 1] - first
        begin = np.cumsum(candidates) - candidates
        anchor = np.repeat(np.arange(len(target)), candidates)
        found = self.source[np.arange(len(anchor)) + (first - begin)[anchor]]
        # Complemented, so that these are not the keys by which the plain stream orders the edges of its passes.
        draw = key_of(seed, ~number[anchor], found) >> np.uint64(64 - _DRAW_BITS)
        # Of two equal draws, one pair in 2^47, the one of the lower source comes first: the same on every machine.
        rank = (anchor.astype(np.uint64) << np.uint64(_DRAW_BITS)) | (draw | np.uint64(1))
        own = found == source[anchor]
        rank[own] = anchor[own].astype(np.uint64) << np.uint64(_DRAW_BITS)
        order = np.argsort(rank, kind="stable")
        bundles: NDArray[np.int32] = found[order[begin[:, None] + np.arange(copies) % candidates[:, None]]]
        return bundles
