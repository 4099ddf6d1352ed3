"""Check the image files of a corpus that keeps them, against their table pixels.npy."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.format.manifest import Manifest
from shards.format.pixels import SUFFIXES, DamagedImageError, decode, suffix_of
from shards.format.records import PIXELS
from shards.format.verification.findings import Findings
from shards.format.verification.tables import open_records

_ROWS = 1 << 17  # images a block: 4 MB
#: How the member of an image file is named, at its end.
IMAGE_NAME = re.compile(rf"\.[0-9]+\.({'|'.join(SUFFIXES)})$")


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedFile:
    """The `number`-th image of the articles `rows`, which are of the shard's own table, and where its file is."""

    number: int
    offset: int
    length: int
    crc: int
    rows: tuple[int, ...]


def check_pixels(directory: Path, manifest: Manifest, findings: Findings) -> list[tuple[int, int]] | None:
    """Check the order of pixels.npy; return the first row of every shard and the row behind its last one, or None.

    A shard's rows are held against its articles and its tar with the shard.
    """
    shards = len(manifest.shards)
    if not manifest.pixels:
        return [(0, 0)] * shards
    table = open_records(directory, "pixels.npy", PIXELS, "image files", findings)
    if table is None:
        return None
    counts = np.zeros(shards, np.int64)
    last = np.zeros(1, PIXELS)
    disorder = 0
    for begin in range(0, len(table), _ROWS):
        rows = np.concatenate([last, table[begin : begin + _ROWS]])
        shard, roi, image = (rows[name].astype(np.int64) for name in ("shard", "roi_offset", "image"))
        if int(shard.max()) >= shards:
            findings.add(f"pixels.npy: names shard {int(shard.max())} of {shards}")
            return None
        counts += np.bincount(shard[1:], minlength=shards)
        follows = np.diff(shard) > 0
        follows |= (np.diff(shard) == 0) & ((np.diff(roi) > 0) | ((np.diff(roi) == 0) & (np.diff(image) > 0)))
        disorder += int((~follows[0 if begin else 1 :]).sum())
        last = rows[-1:]
    if disorder:
        findings.add(f"pixels.npy: {disorder:,} of {len(table):,} rows come twice, or not in order")
        return None
    behind = np.cumsum(counts)
    return list(zip((behind - counts).tolist(), behind.tolist(), strict=True))


def indexed_files(
    shard: str, table: NDArray[np.void], images: NDArray[np.void], findings: Findings
) -> Iterator[IndexedFile]:
    """Yield the files in rows `images` of pixels.npy that an article has: all of each article's, or it is a finding.

    table: the shard's articles.
    """
    articles: dict[int, tuple[int, ...]] = {}
    for row in np.flatnonzero(table["images"]).tolist():
        roi_offset = int(table["roi_offset"][row])
        articles[roi_offset] = (*articles.get(roi_offset, ()), row)
    have: Counter[int] = Counter()
    for _, roi_offset, number, offset, length, crc in images.tolist():
        rows = articles.get(roi_offset, ())
        if not rows or number >= table["images"][rows[0]]:
            findings.add(f"pixels.npy: by the index no article has the image at byte {offset} of {shard}")
            continue
        have[roi_offset] += 1
        yield IndexedFile(number=number, offset=offset, length=length, crc=crc, rows=rows)
    for roi_offset, rows in articles.items() if have else ():
        wanted = int(table["images"][rows[0]])
        if have[roi_offset] != wanted:
            findings.add(f"pixels.npy: has {have[roi_offset]} of {wanted} images at byte {roi_offset} of {shard}")


def image_problem(name: str, content: bytes) -> str | None:
    """Return what is wrong with an image file called `name`, read to its end."""
    if suffix_of(content) != name.rpartition(".")[2]:
        return "is not of the format that its name says"
    try:
        decode(content)
    except DamagedImageError as error:
        return f"is no picture ({error})"
    return None
