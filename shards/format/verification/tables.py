"""Check the tables of the index beyond what opening a corpus asks: order, gaps and repetitions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.arrays import Ints, Mask
from shards.errors import reason
from shards.format import table_checks
from shards.format.index import map_array
from shards.format.manifest import Manifest
from shards.format.records import ARTICLE, VARIANTS
from shards.format.table_checks import reporter
from shards.format.verification.findings import Findings

_ROWS = 1 << 17  # articles a block: 11 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class Articles:
    """articles.npy, mapped, and of every shard its first row and the row behind its last one.

    variants: of every shard, its first row in variants.npy and the row behind its last one.
    target_of: (articles,) the row of each variant's article, -1 for articles themselves; None where there is none.
    """

    table: NDArray[np.void]
    rows: list[tuple[int, int]]
    variants: list[tuple[int, int]]
    target_of: Ints | None


def check_articles(directory: Path, manifest: Manifest, findings: Findings) -> Articles | None:
    """Check articles.npy: rows within bounds, stories in order, texts without a gap. None if it is no table."""
    table = open_records(directory, "articles.npy", ARTICLE, "articles", findings)
    if table is None:
        return None
    text = directory / "text.bin"
    text_bytes = text.stat().st_size if text.is_file() else None
    variants = None
    if "variants.npy" in manifest.files:
        variants = open_records(directory, "variants.npy", VARIANTS, "variants", findings)
    target_of = table_checks.check_variants(manifest, table, variants, findings)
    rows = table_checks.check_articles(manifest, table, text_bytes, findings, target_of)
    _check_order(manifest, table, text_bytes, findings, target_of)
    labels = _open_table(directory, "labels.npy", findings) if "labels.npy" in manifest.files else None
    if labels is not None and (labels.dtype != np.int32 or labels.ndim != 1):
        findings.add("labels.npy: is not a table of labels of this format")
    else:
        table_checks.check_labels(manifest, labels, len(table), findings)
    made = np.zeros(0, np.uint32) if variants is None else np.ascontiguousarray(variants["row"])
    spans: list[list[int]] = np.searchsorted(made, np.array(rows, np.int64).reshape(-1, 2)).tolist()
    return Articles(table=table, rows=rows, variants=[(begin, end) for begin, end in spans], target_of=target_of)


def _check_order(
    manifest: Manifest,
    table: NDArray[np.void],
    text_bytes: int | None,
    findings: Findings,
    target_of: Ints | None,
) -> None:
    """Check that no story is missing, misplaced or double, and that the text arena has no gap."""
    made = np.zeros(len(table), np.bool_) if target_of is None else target_of >= 0
    stories, most, arena = np.zeros(int(manifest.first_stories[-1]), np.bool_), 0, 0
    before = np.zeros(0, ARTICLE)  # articles of the last story of the block before, which may go on in this one
    for begin in range(0, len(table), _ROWS):
        rows = np.array(table[begin : begin + _ROWS])
        own = ~made[begin : begin + _ROWS]
        arena = _check_block(manifest, rows, before, begin, arena, findings, own)
        stories[rows["story"][rows["story"] < len(stories)]] = True
        most, before = max(most, int(rows["images"].max())), rows[own & (rows["story"] == rows["story"][-1])]
    without = np.flatnonzero(~stories).tolist()
    findings.add_many(len(without), (f"articles.npy: story {story} has no article" for story in without))
    if most != manifest.max_images:
        findings.add(f"articles.npy: no article has the {manifest.max_images} images that the manifest says")
    if text_bytes is not None and max(arena, 1) != text_bytes:  # an empty file could not be mapped
        findings.add(f"text.bin: is {text_bytes:,} bytes, the articles' texts end at {arena:,}")


def _check_block(
    manifest: Manifest,
    rows: NDArray[np.void],
    before: NDArray[np.void],
    begin: int,
    arena: int,
    findings: Findings,
    own: Mask,
) -> int:
    """Check some rows against those before them; the end of their texts, which begin at `arena`. own: no variants."""
    report = reporter(findings, "articles.npy, row", begin)
    story, shard = rows["story"].astype(np.int64), rows["shard"].astype(np.int64)
    here = np.minimum(shard, len(manifest.shards) - 1)
    starts = manifest.first_stories
    report(
        (shard == here) & ((story < starts[here]) | (story >= starts[here + 1])),
        lambda row: f"its story {story[row]} is not of {manifest.shards[shard[row]].name}",
    )
    offset = rows["text_offset"].astype(np.int64)
    ends = offset + sum((rows[f"{what}_length"].astype(np.int64) for what in ("url", "text", "summary")), offset * 0)
    expected = np.append(arena, ends[:-1])
    report(offset != expected, lambda row: f"its text is at byte {offset[row]}, the one before ends at {expected[row]}")
    both = np.concatenate([before, rows])
    pair = both["story"].astype(np.int64) * (1 << 16) + both["language"]
    order = np.argsort(pair, kind="stable")
    order = order[np.concatenate([np.ones(len(before), np.bool_), own])[order]]
    twice = np.zeros(len(both), np.bool_)
    twice[order[1:]] = np.diff(pair[order]) == 0
    report(
        twice[len(before) :],
        lambda row: f"story {story[row]} has two articles in language {rows['language'][row]}",
    )
    return int(ends[-1])


def check_edges(directory: Path, manifest: Manifest, articles: Articles, split: str, findings: Findings) -> None:
    """Check edges-<split>.npy and directions-<split>.npy."""
    name = f"edges-{split}.npy"
    edges, starts = (_open_table(directory, each, findings) for each in (name, f"directions-{split}.npy"))
    if edges is None or starts is None:
        return
    if edges.dtype != np.int32 or edges.ndim != 2 or edges.shape[1] != 2:
        findings.add(f"{name}: is not a table of pairs of rows")
        return
    table_checks.check_edges(manifest, articles.table, split, edges, starts, findings, articles.target_of)


def open_records(
    directory: Path, name: str, dtype: np.dtype[np.void], what: str, findings: Findings
) -> NDArray[np.void] | None:
    """Return a mapped table of `what`, or None where it is missing, damaged or of another type."""
    table = _open_table(directory, name, findings)
    if table is not None and (table.dtype != dtype or table.ndim != 1):
        findings.add(f"{name}: is not a table of {what} of this format")
        return None
    return table


def _open_table(directory: Path, name: str, findings: Findings) -> NDArray[Any] | None:
    """Return a mapped array, or None; what is missing was reported with its size."""
    try:
        return map_array(directory / name)
    except FileNotFoundError:
        return None
    except Exception as error:  # numpy reads a header as Python's own syntax, and raises nearly anything
        findings.add(f"{name}: is damaged ({reason(error)})")
        return None
