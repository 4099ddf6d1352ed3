"""Check the tables of an index against one another and against the manifest, fast enough for every opening.

A damaged or hostile index whose hashes fit would otherwise be trained on: a negative row counts from the end. Takes
0.3 s for a million articles with 2.6 million edges. What only the tars can tell is left to `d2tv verify`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.format.manifest import SPLITS, Manifest

#: Edges a block, so that memory does not grow with the corpus.
_BLOCK = 1 << 20


def table_problem(
    manifest: Manifest,
    articles: NDArray[np.void],
    text_bytes: int,
    edges: dict[str, NDArray[Any]],
    directions: dict[str, NDArray[Any]],
    pixels: NDArray[np.void] | None,
) -> str | None:
    """Return the first thing that is wrong with the tables, None where they are sound. Their types are right."""
    for problem in _problems(manifest, articles, text_bytes, edges, directions, pixels):
        return problem
    return None


def _problems(
    manifest: Manifest,
    articles: NDArray[np.void],
    text_bytes: int,
    edges: dict[str, NDArray[Any]],
    directions: dict[str, NDArray[Any]],
    pixels: NDArray[np.void] | None,
) -> Iterator[str]:
    articles = np.asarray(articles)  # a memory map's own type makes an array object of every column
    yield from _article_problems(manifest, articles, text_bytes)
    # Copies: a column of the mapped table is gathered from five times slower than an array of its own.
    language, story = articles["language"].astype(np.int64), np.ascontiguousarray(articles["story"])
    split_of_shard = np.array([SPLITS.index(shard.split) for shard in manifest.shards], np.int64)
    split_of = split_of_shard[articles["shard"]]
    for number, split in enumerate(SPLITS):
        pairs, starts = edges[split], directions[split]
        claim = manifest.splits.get(split)
        if claim is None or claim.edges != len(pairs):
            yield f"edges-{split}.npy holds {len(pairs):,} edges, manifest.json says {claim.edges if claim else 'none'}"
        if starts[0] != 0 or starts[-1] != len(pairs) or (np.diff(starts) < 0).any():
            yield f"directions-{split}.npy does not divide the {len(pairs):,} edges into directions"
            continue
        for begin in range(0, len(pairs), _BLOCK):
            block = np.asarray(pairs[begin : begin + _BLOCK])
            if int(block.min()) < 0 or int(block.max()) >= len(articles):
                named = f"{int(block.min()):,} to {int(block.max()):,}"
                yield f"edges-{split}.npy names articles {named} of {len(articles):,}"
                continue
            source, target = block[:, 0], block[:, 1]
            if (story[source] != story[target]).any():
                yield f"edges-{split}.npy joins articles of different stories"
            if (split_of[target] != number).any():
                yield f"edges-{split}.npy joins articles of another split"
            within = np.diff(np.clip(starts, begin, begin + len(block)))
            direction = np.repeat(np.arange(len(within)), within)
            if (language[target] * len(manifest.languages) + language[source] != direction).any():
                yield f"edges-{split}.npy holds edges of other languages than directions-{split}.npy says"
    if pixels is not None:
        yield from _pixel_problems(manifest, pixels)


def _article_problems(manifest: Manifest, articles: NDArray[np.void], text_bytes: int) -> Iterator[str]:
    count, shard = len(articles), articles["shard"]
    for column, limit, what in (
        ("shard", len(manifest.shards), "shards"),
        ("language", len(manifest.languages), "languages"),
        ("story", int(manifest.first_stories[-1]), "stories"),
        ("images", manifest.max_images + 1, "images at most"),
    ):
        most = int(articles[column].max(initial=0))
        if count and most >= limit:
            yield (
                f"articles.npy names number {most:,} of {limit:,} {what}"
                if what != "images at most"
                else (
                    f"articles.npy names {most:,} images of an article, manifest.json {manifest.max_images:,} at most"
                )
            )
            return
    told = sum(claim.articles for claim in manifest.splits.values())
    if count != told:
        yield f"articles.npy holds {count:,} articles, manifest.json says {told:,}"
    if count and (np.diff(articles["story"].astype(np.int64)) < 0).any():
        yield "articles.npy: the articles of a story are not neighbours"
    sizes = np.array([each.bytes for each in manifest.shards], np.uint64)[shard]
    for kind in ("json", "roi", "boxes"):
        if _outside(articles[f"{kind}_offset"], articles[f"{kind}_length"], sizes).any():
            yield f"articles.npy: {kind}_offset or {kind}_length lies behind the end of a shard"
    lengths = sum((articles[f"{what}_length"].astype(np.uint64) for what in ("url", "text", "summary")), np.uint64(0))
    if _outside(articles["text_offset"], np.asarray(lengths), np.uint64(text_bytes)).any():
        yield "articles.npy: text_offset or a length lies behind the end of text.bin"
    if count and not (articles["text_length"].min() and articles["summary_length"].min()):
        yield "articles.npy: an article's text or summary has no byte"
    if ((articles["roi_length"] == 0) != (articles["images"] == 0)).any():
        yield "articles.npy: an article has images without features, or features without images"


def _pixel_problems(manifest: Manifest, pixels: NDArray[np.void]) -> Iterator[str]:
    if len(pixels) and int(pixels["shard"].max()) >= len(manifest.shards):
        yield f"pixels.npy names shard {int(pixels['shard'].max()):,} of {len(manifest.shards):,}"
        return
    sizes = np.array([each.bytes for each in manifest.shards], np.uint64)[pixels["shard"]]
    if _outside(pixels["offset"], pixels["length"], sizes).any():
        yield "pixels.npy: offset or length lies behind the end of a shard"


def _outside(offset: NDArray[Any], length: NDArray[Any], size: Any) -> NDArray[np.bool_]:
    """Mark where offset + length is more than size, without the overflow that a hostile offset would cause."""
    wide: NDArray[np.uint64] = length.astype(np.uint64)
    outside: NDArray[np.bool_] = (wide > size) | (offset > size - np.minimum(wide, size))
    return outside
