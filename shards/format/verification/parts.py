"""Check what the index says of one shard: its rows, its keys, and its own part of the index, written beside the tar."""

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.errors import reason
from shards.format.index import map_array
from shards.format.part_index import load_part, part_problem
from shards.format.records import PIXELS, VARIANTS
from shards.format.verification.findings import Findings

#: The columns of the articles that tell where in the tar a member is.
_FROM_TAR = ("json_", "roi_", "boxes_")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """A shard and what the rest of the corpus says of it.

    rows: its first row in articles.npy and the row behind its last one; None where that table cannot be read.
    pixels: the same of pixels.npy, where the corpus keeps pixels.
    variants: the same of variants.npy, (0, 0) where there is none of it.
    keys_at: the byte of story_keys.txt at which its keys begin; None where they are not all there.
    """

    directory: Path
    number: int
    name: str
    size: int  # bytes, from the manifest
    first_story: int
    stories: int
    rows: tuple[int, int] | None
    pixels: tuple[int, int] | None
    variants: tuple[int, int]
    keys_at: int | None
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    regions: int
    feature_size: int


def read_rows(task: ShardTask) -> NDArray[np.void] | None:
    """Return the shard's rows of articles.npy: a copy, since a shard is small and the mapping must not be kept."""
    if task.rows is None:
        return None
    span = map_array(task.directory / "articles.npy")[slice(*task.rows)]
    rows: NDArray[np.void] = np.array(span[span["shard"] == task.number])
    return rows


def read_images(task: ShardTask) -> NDArray[np.void] | None:
    """Return the shard's rows of pixels.npy, none where there is nothing of it; a copy too."""
    if task.pixels is None:
        return None
    if task.pixels[0] == task.pixels[1]:
        return np.zeros(0, PIXELS)
    return np.array(map_array(task.directory / "pixels.npy")[slice(*task.pixels)])


def read_variants(task: ShardTask, articles: int) -> dict[int, int]:
    """Return the row of each variant and of its article, counted from the shard's first of so many.

    Those of other shards, and variants of variants, are left out: the tables' checks report them.
    """
    if task.rows is None or task.variants[0] == task.variants[1]:
        return {}
    first = task.rows[0]
    table = map_array(task.directory / "variants.npy")[slice(*task.variants)].tolist()
    pairs = {row - first: target - first for row, target in table}
    here = range(articles)
    return {row: target for row, target in pairs.items() if row in here and target in here and target not in pairs}


def read_labels(task: ShardTask, table: NDArray[np.void]) -> list[str | None] | None:
    """Return the label of each of the shard's rows by the index, None for none; None where that cannot be read."""
    path = task.directory / "labels.npy"
    if task.rows is None or not task.labels:
        return [None] * len(table)
    span = map_array(task.directory / "articles.npy")[slice(*task.rows)]["shard"] == task.number
    try:
        numbers = map_array(path)[slice(*task.rows)]
        known = dict(enumerate(task.labels))
        return [known.get(number) for number in numbers[span].tolist()]
    except Exception:  # damaged: the tables' checks say so
        return None


def read_keys(task: ShardTask) -> list[str] | None:
    if task.keys_at is None:
        return None
    with open(task.directory / "story_keys.txt", "rb") as file:
        file.seek(task.keys_at)
        return [line.rstrip(b"\n").decode("ascii", "backslashreplace") for line in islice(file, task.stories)]


def check_part(
    tar: Path,
    task: ShardTask,
    table: NDArray[np.void],
    images: NDArray[np.void] | None,
    target_of: dict[int, int],
    keys: list[str] | None,
    findings: Findings,
) -> None:
    """Check <shard>.index.npz, which only the making of a corpus needs: it may be missing, but not differ.

    It is compared by content, since the manifest has no hash of it: bytes that no array is made of, such as zeros
    behind its end, are harmless and not reported. Its edges are held against its own articles.
    """
    path = tar.with_name(task.name.removesuffix(".tar") + ".index.npz")
    if not path.is_file():
        if os.path.lexists(path):
            findings.add(f"{path.name}: is no file")
        return
    try:
        part = load_part(path)
        problem = part_problem(part)
        if problem is not None:
            findings.add(f"{path.name}: {problem}")
            return
        rows, size = part["articles"], int(part["tar_bytes"])
        columns = [name for name in table.dtype.names or () if name.startswith(_FROM_TAR)]
        same = len(rows) == len(table) and all(
            np.array_equal(rows[name], table[name]) for name in ("language", "images", *columns)
        )
        same = same and np.array_equal(rows["story"] + task.first_story, table["story"])
        same = same and (keys is None or [str(key) for key in part["keys"]] == keys)
        same = same and (int(part["regions"]), int(part["width"])) in ((0, 0), (task.regions, task.feature_size))
        same = same and dict(part.get("variants", np.zeros(0, VARIANTS)).tolist()) == target_of
        labels = [str(label) or None for label in part.get("labels", [""] * len(rows))]
        same = same and read_labels(task, table) in (None, labels)
        if images is not None:
            pixels = part.get("pixels", np.zeros(0, PIXELS))
            same = same and all(np.array_equal(pixels[name], images[name]) for name in (PIXELS.names or ())[1:])
    except Exception as error:  # as `load_part`, and arrays of other shapes and types raise nearly anything
        findings.add(f"{path.name}: is damaged ({reason(error)})")
        return
    if not same:
        findings.add(f"{path.name}: does not say what the corpus' index says of {task.name}")
    elif size != task.size:
        findings.add(f"{path.name}: is of a tar of {size:,} bytes, the manifest says {task.size:,}")
