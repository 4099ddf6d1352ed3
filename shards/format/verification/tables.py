"""The tables of the index: articles and edges, against the manifest and against one another.

Everything is read in blocks, so that memory does not grow with the corpus.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import reason
from shards.format.index import ARTICLE, DAMAGED_ARRAY, map_array
from shards.format.manifest import Manifest
from shards.format.verification.findings import Findings

_ROWS = 1 << 17  # articles a block: 11 MB
_EDGES = 1 << 19  # edges a block: 8 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class Articles:
    """articles.npy, mapped, and of every shard its first row and the row behind its last one."""

    table: NDArray[np.void]
    rows: list[tuple[int, int]]


def check_articles(directory: Path, manifest: Manifest, findings: Findings) -> Articles | None:
    """articles.npy: rows within bounds, stories in order, the text arena without a gap. None if it is no table."""
    table = open_table(directory, "articles.npy", findings)
    if table is None:
        return None
    if table.dtype != ARTICLE or table.ndim != 1:
        findings.add("articles.npy: is not a table of articles of this format")
        return None
    check = _ArticleCheck(manifest, findings)
    for begin in range(0, len(table), _ROWS):
        check.block(begin, np.array(table[begin : begin + _ROWS]))
    check.end((directory / "text.bin").stat().st_size if (directory / "text.bin").is_file() else None)
    return Articles(table=table, rows=list(zip(check.first.tolist(), check.behind.tolist(), strict=True)))


class _ArticleCheck:
    """Takes the rows in blocks, and carries from one to the next what a row is compared with."""

    def __init__(self, manifest: Manifest, findings: Findings) -> None:
        self._manifest, self._findings = manifest, findings
        self._starts = manifest.first_stories
        shards = len(manifest.shards)
        self.first, self.behind = np.zeros(shards, np.int64), np.zeros(shards, np.int64)
        self._count = np.zeros(shards, np.int64)
        self._story, self._arena, self._most = -1, 0, 0
        self._before = np.zeros(0, ARTICLE)  # the last story of the block before

    def block(self, begin: int, rows: NDArray[np.void]) -> None:
        manifest, starts = self._manifest, self._starts
        story, shard, language = (rows[name].astype(np.int64) for name in ("story", "shard", "language"))

        def told(wrong: Any, say: Callable[[int], str]) -> None:
            found: list[int] = np.flatnonzero(wrong).tolist()
            self._findings.add_many(len(found), (f"articles.npy, row {begin + row}: {say(row)}" for row in found))

        known = shard < len(manifest.shards)
        told(~known, lambda row: f"names shard {shard[row]} of {len(manifest.shards)}")
        told(language >= len(manifest.languages), lambda row: f"names language {language[row]}")
        placed = known.copy()
        placed[known] = (starts[shard[known]] <= story[known]) & (story[known] < starts[shard[known] + 1])
        told(known & ~placed, lambda row: f"its story {story[row]} is not of {manifest.shards[shard[row]].name}")

        sound = np.flatnonzero(placed)
        before = np.concatenate([[self._story], story[sound]])
        step = np.zeros(len(rows), np.int64)
        step[sound] = np.diff(before)
        told(step < 0, lambda row: f"its story {story[row]} comes too late: a story's articles are neighbours")
        told(step > 1, lambda row: f"{step[row] - 1} stories before story {story[row]} have no article")
        self._story = int(before[-1])

        images = rows["images"]
        told(images > manifest.max_images, lambda row: f"{images[row]} images, of at most {manifest.max_images}")
        self._most = max(self._most, int(images.max()))
        named = sum((rows[f"{kind}_length"].astype(np.int64) for kind in ("roi", "boxes")), np.zeros(1, np.int64))
        told((named > 0) != (images > 0), lambda row: f"{images[row]} images with {named[row]} bytes of features")

        offset = rows["text_offset"].astype(np.int64)
        lengths = sum((rows[f"{what}_length"].astype(np.int64) for what in ("url", "text", "summary")), offset * 0)
        expected = np.concatenate([[self._arena], (offset + lengths)[:-1]])
        told(
            offset != expected, lambda row: f"its text is at byte {offset[row]}, the one before ends at {expected[row]}"
        )
        self._arena = int(offset[-1] + lengths[-1])

        # A story may lie across two blocks.
        both = np.concatenate([self._before, rows])
        pair = both["story"].astype(np.int64) * (1 << 16) + both["language"]
        order = np.argsort(pair, kind="stable")
        twice = np.zeros(len(both), np.bool_)
        twice[order[1:]] = np.diff(pair[order]) == 0
        told(twice[len(self._before) :], lambda row: f"story {story[row]} has two articles in language {language[row]}")
        self._before = rows[story == story[-1]]

        for number in np.unique(shard[known]).tolist():
            of_shard = np.flatnonzero(shard == number)
            if not self._count[number]:
                self.first[number] = begin + of_shard[0]
            self.behind[number] = begin + of_shard[-1] + 1
            self._count[number] += len(of_shard)

    def end(self, arena: int | None) -> None:
        """Check what only the whole table tells. `arena`: the bytes of text.bin, None if there is none."""
        manifest, add = self._manifest, self._findings.add
        missing = int(self._starts[-1]) - 1 - self._story
        if missing > 0:
            add(f"articles.npy: the last {missing} stories have no article")
        if self._most != manifest.max_images:
            add(f"articles.npy: no article has the {manifest.max_images} images that the manifest says")
        if arena is not None and max(self._arena, 1) != arena:  # an empty file could not be mapped
            add(f"text.bin: is {arena:,} bytes, the articles' texts end at {self._arena:,}")
        for split, claim in manifest.splits.items():
            of_split = [shard.split == split for shard in manifest.shards]
            if claim.articles != self._count[of_split].sum():
                add(
                    f"manifest.json: says {claim.articles:,} articles in {split}, "
                    f"the index has {self._count[of_split].sum():,}"
                )


def check_edges(directory: Path, manifest: Manifest, articles: Articles, split: str, findings: Findings) -> None:
    """edges-<split>.npy and directions-<split>.npy: each edge in one story of the split and in its direction, once."""
    name = f"edges-{split}.npy"
    edges, starts = open_table(directory, name, findings), open_table(directory, f"directions-{split}.npy", findings)
    if edges is None or starts is None:
        return
    languages = len(manifest.languages)
    if edges.dtype != np.int32 or edges.ndim != 2 or edges.shape[1] != 2:
        findings.add(f"{name}: is not a table of pairs of rows")
        return
    if split in manifest.splits and len(edges) != manifest.splits[split].edges:
        findings.add(
            f"manifest.json: says {manifest.splits[split].edges:,} edges in {split}, {name} has {len(edges):,}"
        )
    ordered = starts.dtype == np.int64 and starts.shape == (languages**2 + 1,)
    if not (ordered and starts[0] == 0 and starts[-1] == len(edges) and (np.diff(starts) >= 0).all()):
        findings.add(f"directions-{split}.npy: does not divide the {len(edges):,} edges into {languages**2} directions")
        starts = None
    check = _EdgeCheck(manifest, articles.table, split, starts, findings)
    for begin in range(0, len(edges), _EDGES):
        check.block(begin, np.array(edges[begin : begin + _EDGES], np.int64))


class _EdgeCheck:
    """Takes the edges of a split in blocks. starts: where its directions begin; None where that is not known."""

    def __init__(
        self,
        manifest: Manifest,
        table: NDArray[np.void],
        split: str,
        starts: NDArray[np.int64] | None,
        findings: Findings,
    ) -> None:
        self._manifest, self._starts, self._findings = manifest, starts, findings
        self._name = f"edges-{split}.npy"
        self._articles = len(table)
        self._story, self._language, self._shard = (table[name] for name in ("story", "language", "shard"))
        # With one more for shards that do not exist: articles.npy was found wrong for those.
        self._of_split = np.array([*(shard.split == split for shard in manifest.shards), True])
        self._last = -1, -1  # direction and number of the pair before

    def block(self, begin: int, pairs: NDArray[np.int64]) -> None:
        names, languages = self._manifest.languages, len(self._manifest.languages)

        def told(wrong: Any, say: Callable[[int], str]) -> None:
            found: list[int] = np.flatnonzero(wrong).tolist()
            self._findings.add_many(len(found), (f"{self._name}, edge {begin + row}: {say(row)}" for row in found))

        def spoken(direction: int) -> str:
            return f"{names[direction % languages]} -> {names[direction // languages]}"

        rows = (pairs >= 0) & (pairs < self._articles)
        within = rows[:, 0] & rows[:, 1]
        told(~within, lambda row: f"joins rows {pairs[row, 0]} and {pairs[row, 1]} of {self._articles:,}")
        if not within.any():
            return
        somewhere = int(pairs[within][0, 0])  # looked up for edges that lead nowhere, and not told of
        source, target = np.where(within[:, None], pairs, somewhere).T
        stories = self._story[source], self._story[target]
        told(
            stories[0] != stories[1],
            lambda row: f"joins articles of two stories, {stories[0][row]} and {stories[1][row]}",
        )
        shard = np.minimum(self._shard[target], len(self._of_split) - 1)
        told(~self._of_split[shard], lambda row: f"joins articles of {self._manifest.shards[int(shard[row])].name}")
        if self._starts is None:
            return
        direction = np.searchsorted(self._starts, np.arange(begin, begin + len(pairs)), side="right") - 1
        spoke, speaks = self._language[source].astype(np.int64), self._language[target].astype(np.int64)
        is_of = speaks * languages + spoke
        told(
            within & (np.maximum(spoke, speaks) < languages) & (is_of != direction),
            lambda row: f"is {spoken(int(is_of[row]))}, but stands among {spoken(int(direction[row]))}",
        )
        number = pairs[:, 0] * self._articles + pairs[:, 1]
        follows = np.diff(np.append(self._last[0], direction)) == 0
        told(follows & (np.diff(np.append(self._last[1], number)) <= 0), lambda row: "comes twice, or not in order")
        self._last = int(direction[-1]), int(number[-1])


def open_table(directory: Path, name: str, findings: Findings) -> NDArray[Any] | None:
    """A mapped array, or None; what is missing was told of with its size."""
    try:
        return map_array(directory / name)
    except FileNotFoundError:
        return None
    except DAMAGED_ARRAY as error:
        findings.add(f"{name}: is damaged ({reason(error)})")
        return None
