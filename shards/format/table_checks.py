"""Check the tables of an index against one another, the manifest and the sizes of the shards.

Every opening of a corpus and `d2tv verify` run these checks: a damaged or hostile index whose hashes fit would
otherwise be trained on (a negative row counts from the end). They read in blocks, so memory does not grow with the
corpus, and take less than a second for a million articles with 2.6 million edges.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.arrays import Ints, Mask
from shards.format.manifest import SPLITS, Manifest
from shards.format.verification.findings import Findings

_ROWS = 1 << 17  # articles a block: 11 MB
_EDGES = 1 << 19  # edges a block: 8 MB


def reporter(findings: Findings, table: str, begin: int) -> Callable[[Any, Callable[..., str]], None]:
    """Return a function that reports the rows of a block where a mask is True, as `table` and the row's number."""

    def report(wrong: Any, describe: Callable[..., str]) -> None:
        found: list[int] = np.flatnonzero(wrong).tolist()
        findings.add_many(len(found), (f"{table} {begin + row}: {describe(row)}" for row in found))

    return report


def check_tables(
    manifest: Manifest,
    articles: NDArray[np.void],
    text_bytes: int,
    edges: dict[str, NDArray[Any]],
    directions: dict[str, NDArray[Any]],
    pixels: NDArray[np.void] | None,
    variants: NDArray[np.void] | None = None,
    labels: NDArray[np.int32] | None = None,
) -> Findings:
    """Return all that is wrong with tables whose types are right."""
    findings = Findings()
    target_of = check_variants(manifest, articles, variants, findings)
    check_articles(manifest, articles, text_bytes, findings, target_of)
    for split in SPLITS:
        check_edges(manifest, articles, split, edges[split], directions[split], findings, target_of)
    check_labels(manifest, labels, len(articles), findings)
    if pixels is not None:
        shard = pixels["shard"]
        report = reporter(findings, "pixels.npy, row", 0)
        report(shard >= len(manifest.shards), lambda row: f"names shard {shard[row]} of {len(manifest.shards)}")
        outside = _outside(pixels["offset"], pixels["length"], _sizes(manifest, shard))
        report(outside, lambda row: "its file lies behind the end of its shard")
    return findings


def check_labels(manifest: Manifest, labels: NDArray[np.int32] | None, articles: int, findings: Findings) -> None:
    """Check that every row has a label of the manifest, or none. articles: rows of articles.npy."""
    names = len(manifest.labels)
    if (labels is not None) != bool(names):
        findings.add(f"manifest.json: names {names} labels, and labels.npy is {'not ' * (labels is None)}there")
    elif labels is not None and len(labels) != articles:
        findings.add(f"labels.npy: has {len(labels):,} rows, articles.npy {articles:,}")
    elif labels is not None:
        number = np.asarray(labels)
        report = reporter(findings, "labels.npy, row", 0)
        report((number < -1) | (number >= names), lambda row: f"names label {number[row]} of {names}")


def check_variants(
    manifest: Manifest, articles: NDArray[np.void], variants: NDArray[np.void] | None, findings: Findings
) -> Ints | None:
    """Check that each variant is of another article of its story, of the training split, and shows its images.

    Returns (articles,) the row of each variant's article, -1 for articles themselves; None where there are no variants.
    """
    if variants is None:
        return None
    row, target = (variants[name].astype(np.int64) for name in ("row", "target"))
    report = reporter(findings, "variants.npy, row", 0)
    inside: Mask = (row < len(articles)) & (target < len(articles))
    report(~inside, lambda at: f"names rows {row[at]} and {target[at]} of {len(articles):,}")
    report(np.diff(row, prepend=-1) <= 0, lambda at: "comes twice, or not in order")
    target_of: Ints = np.full(len(articles), -1, np.int64)
    target_of[row[inside]] = target[inside]
    of_train = np.array([*(each.split == "train" for each in manifest.shards), True])  # shards that do not exist too
    if inside.any():
        row, target = (np.where(inside, rows, rows[inside][0]) for rows in (row, target))
        variant, article = articles[row], articles[target]
        report(~of_train[np.minimum(variant["shard"], len(manifest.shards))], lambda at: "is not of the training split")
        report(variant["story"] != article["story"], lambda at: "is of an article of another story")
        report(variant["language"] == article["language"], lambda at: "is in the language of its article")
        report(target_of[target] >= 0, lambda at: "is of another variant")
        same = np.all([variant[name] == article[name] for name in ("images", "roi_offset", "boxes_offset")], axis=0)
        report(~same, lambda at: "does not show its article's images")
        pair = target * (1 << 16) + variant["language"]
        _, first = np.unique(pair, return_index=True)
        report(inside & ~np.isin(np.arange(len(row)), first), lambda at: "is a second one of its direction")
    return target_of


def check_articles(
    manifest: Manifest,
    articles: NDArray[np.void],
    text_bytes: int | None,
    findings: Findings,
    target_of: Ints | None = None,
) -> list[tuple[int, int]]:
    """Check every article by itself, and that stories come in order.

    Returns the first row of every shard and the row behind its last one. text_bytes: of the text arena, None if there
    is none. target_of: as `check_variants` returns it; variants have a text alone.
    """
    if target_of is None:
        target_of = np.full(len(articles), -1, np.int64)
    shards = len(manifest.shards)
    first, behind, count = (np.zeros(shards, np.int64) for _ in range(3))
    latest = -1
    for begin in range(0, len(articles), _ROWS):
        rows = np.array(articles[begin : begin + _ROWS])
        made = target_of[begin : begin + _ROWS] >= 0
        latest = _article_block(manifest, rows, begin, text_bytes, latest, findings, made)
        shard = np.where(rows["shard"] < shards, rows["shard"], shards)
        numbers, places, counts = np.unique(shard, return_index=True, return_counts=True)
        last = len(rows) - np.unique(shard[::-1], return_index=True)[1]
        real = numbers < shards
        numbers = numbers[real]
        first[numbers] = np.where(count[numbers] > 0, first[numbers], begin + places[real])
        behind[numbers] = begin + last[real]
        count[numbers] += counts[real]
    for split, claim in manifest.splits.items():
        of_split = sum(count[number] for number, each in enumerate(manifest.shards) if each.split == split)
        if claim.articles + claim.variants != of_split:
            says = f"{claim.articles:,} articles" + (f" and {claim.variants:,} variants" if claim.variants else "")
            findings.add(f"manifest.json: says {says} in {split}, the index has {of_split:,}")
    if (found := int((target_of >= 0).sum())) != (said := sum(claim.variants for claim in manifest.splits.values())):
        findings.add(f"manifest.json: says {said:,} variants, the index has {found:,}")
    return list(zip(first.tolist(), behind.tolist(), strict=True))


def _article_block(
    manifest: Manifest,
    rows: NDArray[np.void],
    begin: int,
    text_bytes: int | None,
    latest: int,
    findings: Findings,
    made: Mask,
) -> int:
    """Check some rows; `latest` is the largest story before them, and returned with theirs. made: True for variants."""
    report = reporter(findings, "articles.npy, row", begin)
    story, shard, language, images = (rows[name].astype(np.int64) for name in ("story", "shard", "language", "images"))
    for name, value, limit in (
        ("shard", shard, len(manifest.shards)),
        ("language", language, len(manifest.languages)),
        ("story", story, int(manifest.first_stories[-1])),
    ):
        report(value >= limit, lambda row, name=name, value=value, limit=limit: f"names {name} {value[row]} of {limit}")
    report(
        story < np.maximum.accumulate(np.append(latest, story[:-1])),
        lambda row: f"its story {story[row]} comes too late: a story's articles are neighbours",
    )
    report(images > manifest.max_images, lambda row: f"{images[row]} images, of at most {manifest.max_images}")
    features = rows["roi_length"]
    report((features > 0) != (images > 0), lambda row: f"{images[row]} images with {features[row]} bytes of features")
    sizes = _sizes(manifest, shard)
    for kind in ("json", "roi", "boxes"):
        outside = _outside(rows[f"{kind}_offset"], rows[f"{kind}_length"], sizes)
        report(outside, lambda row, kind=kind: f"its {kind} member lies behind the end of its shard")
    lengths = sum((rows[f"{what}_length"].astype(np.uint64) for what in ("url", "text", "summary")), np.uint64(0))
    if text_bytes is not None:
        outside = _outside(rows["text_offset"], np.asarray(lengths), np.uint64(text_bytes))
        report(outside, lambda row: "its text lies behind the end of text.bin")
    empty = (rows["text_length"] == 0) | (~made & (rows["summary_length"] == 0))
    report(empty, lambda row: "its text or summary is empty")
    more = made & ((rows["url_length"] > 0) | (rows["summary_length"] > 0))
    report(more, lambda row: "is a variant and has more than a text")
    return max(latest, int(story.max()))


def check_edges(
    manifest: Manifest,
    articles: NDArray[np.void],
    split: str,
    edges: NDArray[Any],
    starts: NDArray[Any] | None,
    findings: Findings,
    target_of: Ints | None = None,
) -> None:
    """Check that each edge joins two articles of one story of the split, once, in its direction.

    starts: where the directions begin; None where that is not known.  target_of: as `check_variants` returns it; a
    variant has one edge, to its article.
    """
    name = f"edges-{split}.npy"
    if split in manifest.splits and len(edges) != manifest.splits[split].edges:
        findings.add(
            f"manifest.json: says {manifest.splits[split].edges:,} edges in {split}, {name} has {len(edges):,}"
        )
    if starts is not None:
        count = len(manifest.languages) ** 2
        ordered = starts.dtype == np.int64 and starts.shape == (count + 1,)
        if not (ordered and starts[0] == 0 and starts[-1] == len(edges) and (np.diff(starts) >= 0).all()):
            findings.add(f"directions-{split}.npy: does not divide the {len(edges):,} edges into {count} directions")
            starts = None
    # Arrays of their own: from a column of the mapped table it is gathered five times slower.
    story, language, shard = (np.ascontiguousarray(articles[column]) for column in ("story", "language", "shard"))
    of_split = np.array([*(each.split == split for each in manifest.shards), True])  # shards that do not exist too
    last = (-1, -1)  # direction and number of the pair before
    without_edge = np.zeros(0, np.int64)
    if target_of is not None and split == "train":
        without_edge = np.flatnonzero(target_of >= 0)
    for begin in range(0, len(edges), _EDGES):
        pairs = np.array(edges[begin : begin + _EDGES], np.int64)
        if target_of is not None:
            _check_variant_edges(pairs, begin, target_of, findings, split)
            without_edge = np.setdiff1d(without_edge, pairs[:, 0])
        last = _edge_block(manifest, pairs, begin, (story, language, shard), of_split, starts, last, findings, split)
    findings.add_many(len(without_edge), (f"{name}: the variant of row {row} has no edge" for row in without_edge))


def _check_variant_edges(pairs: Ints, begin: int, target_of: Ints, findings: Findings, split: str) -> None:
    """Check that no edge leads to a variant, and that those of variants lead to their articles."""
    report = reporter(findings, f"edges-{split}.npy, edge", begin)
    within: Mask = np.all((pairs >= 0) & (pairs < len(target_of)), axis=1)
    source, target = np.where(within[:, None], pairs, 0).T
    report(within & (target_of[target] >= 0), lambda row: "has a variant for its target")
    wrong = within & (target_of[source] >= 0) & (target_of[source] != target)
    report(wrong, lambda row: "joins a variant and an article that it is not of")


def _edge_block(
    manifest: Manifest,
    pairs: Ints,
    begin: int,
    columns: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    of_split: Mask,
    starts: NDArray[Any] | None,
    last: tuple[int, int],
    findings: Findings,
    split: str,
) -> tuple[int, int]:
    report = reporter(findings, f"edges-{split}.npy, edge", begin)
    story, language, shard = columns
    names, articles = manifest.languages, len(story)

    def spoken(direction: int) -> str:
        return f"{names[direction % len(names)]} -> {names[direction // len(names)]}"

    within: Mask = np.all((pairs >= 0) & (pairs < articles), axis=1)
    report(~within, lambda row: f"joins rows {pairs[row, 0]} and {pairs[row, 1]} of {articles:,}")
    if not within.any():
        return last
    somewhere = int(pairs[within][0, 0])  # looked up for edges that lead nowhere, which are reported already
    source, target = np.where(within[:, None], pairs, somewhere).T
    report(
        story[source] != story[target],
        lambda row: f"joins articles of two stories, {story[source[row]]} and {story[target[row]]}",
    )
    at = np.minimum(shard[target], len(of_split) - 1)
    report(~of_split[at], lambda row: f"joins articles of {manifest.shards[int(at[row])].name}")
    if starts is None:
        return last
    direction = np.searchsorted(starts, np.arange(begin, begin + len(pairs)), side="right") - 1
    spoke, speaks = language[source].astype(np.int64), language[target].astype(np.int64)
    is_of = speaks * len(names) + spoke
    report(
        within & (np.maximum(spoke, speaks) < len(names)) & (is_of != direction),
        lambda row: f"is {spoken(int(is_of[row]))}, but stands among {spoken(int(direction[row]))}",
    )
    number = pairs[:, 0] * articles + pairs[:, 1]
    follows = np.diff(np.append(last[0], direction)) == 0
    report(follows & (np.diff(np.append(last[1], number)) <= 0), lambda row: "comes twice, or not in order")
    return int(direction[-1]), int(number[-1])


def _sizes(manifest: Manifest, shard: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the bytes of each row's shard; without an end for a shard that does not exist."""
    sizes = np.array([*(each.bytes for each in manifest.shards), 2**64 - 1], np.uint64)
    return np.asarray(sizes[np.minimum(shard, len(manifest.shards))])


def _outside(offset: NDArray[Any], length: NDArray[Any], size: Any) -> Mask:
    """Mark where offset + length is more than size, without the overflow that a hostile offset would cause."""
    wide: NDArray[np.uint64] = length.astype(np.uint64)
    outside: Mask = (wide > size) | (offset > size - np.minimum(wide, size))
    return outside
