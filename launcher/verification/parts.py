"""What the index says of one shard: its rows, its keys, and its own part of the index, written beside the tar."""

import zipfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from launcher.verification.findings import Findings

#: The columns of the articles that tell where in the tar a member is.
_FROM_TAR = ("json_", "roi_", "boxes_")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """A shard and what the rest of the corpus says of it.

    rows: its first row in articles.npy and the row behind its last one; None where that table cannot be read.
    keys_at: the byte of story_keys.txt at which its keys begin; None where they are not all there.
    """

    directory: Path
    number: int
    name: str
    size: int  # bytes, from the manifest
    first_story: int
    stories: int
    rows: tuple[int, int] | None
    keys_at: int | None
    languages: tuple[str, ...]
    regions: int
    feature_size: int


def read_rows(task: ShardTask) -> NDArray[np.void] | None:
    """The shard's rows of articles.npy: a copy, since a shard is small and the mapping must not be kept."""
    if task.rows is None:
        return None
    span = np.load(task.directory / "articles.npy", mmap_mode="r")[slice(*task.rows)]
    rows: NDArray[np.void] = np.array(span[span["shard"] == task.number])
    return rows


def read_keys(task: ShardTask) -> list[str] | None:
    if task.keys_at is None:
        return None
    with open(task.directory / "story_keys.txt", "rb") as file:
        file.seek(task.keys_at)
        return [line.rstrip(b"\n").decode("ascii", "backslashreplace") for line in islice(file, task.stories)]


def check_part(tar: Path, task: ShardTask, table: NDArray[np.void], keys: list[str] | None, findings: Findings) -> None:
    """<shard>.index.npz, which only the making of a corpus needs: it may be gone, but not say something else."""
    path = tar.with_name(task.name.removesuffix(".tar") + ".index.npz")
    if not path.is_file():
        return
    try:
        with np.load(path) as saved:
            part = dict(saved)
        rows, size = part["articles"], int(part["tar_bytes"])
        columns = [name for name in table.dtype.names or () if name.startswith(_FROM_TAR)]
        same = len(rows) == len(table) and all(
            np.array_equal(rows[name], table[name]) for name in ("language", "images", *columns)
        )
        same = same and np.array_equal(rows["story"] + task.first_story, table["story"])
        same = same and (keys is None or [str(key) for key in part["keys"]] == keys)
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        findings.add(f"{path.name}: is damaged ({error})")
        return
    if not same:
        findings.add(f"{path.name}: does not say what the corpus' index says of {task.name}")
    elif size != task.size:
        findings.add(f"{path.name}: is of a tar of {size:,} bytes, the manifest says {task.size:,}")
