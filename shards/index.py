"""The fixed-width index that is written with the shards, and the manifest that binds them together.

A corpus directory holds
    <split>-<nnnnnn>.tar          WebDataset shards: one sample a story
    <split>-<nnnnnn>.index.npz    the shard's own part of the index (its existence says the shard is whole)
    articles.npy                  one ARTICLE record an article, memory-mapped
    edges-<split>.npy             int32 (edges, 2): source and target article rows, grouped by direction
    directions-<split>.npy        int64 (L * L + 1): where direction target * L + source begins in the edges
    story_keys.txt                one percent-encoded key a line
    tokenizer/                    where the corpus trained its own
    manifest.json                 written last: a corpus without one is not a corpus
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError

FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")

#: One article. Offsets are of the member's data in its tar, lengths in bytes, crc is CRC32C of the member.
#: roi_* and boxes_* are zero where the article has no images; articles that share images share the offsets.
ARTICLE = np.dtype(
    [
        ("story", "<u4"),
        ("language", "<u2"),
        ("images", "<u2"),
        ("shard", "<u4"),
        ("text_offset", "<u8"),
        ("text_length", "<u4"),
        ("text_crc", "<u4"),
        ("roi_offset", "<u8"),
        ("roi_length", "<u4"),
        ("roi_crc", "<u4"),
        ("boxes_offset", "<u8"),
        ("boxes_length", "<u4"),
        ("boxes_crc", "<u4"),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A finished corpus, its arrays memory-mapped so that the ranks of a host share one copy."""

    directory: Path
    manifest: Mapping[str, Any]
    articles: NDArray[np.void]
    edges: Mapping[str, NDArray[np.int32]]
    directions: Mapping[str, NDArray[np.int64]]

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.manifest["languages"])

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(shard["name"] for shard in self.manifest["shards"])

    @property
    def content_hash(self) -> str:
        return str(self.manifest["content_hash"])

    def direction_counts(self, split: str) -> NDArray[np.int64]:
        """(L, L) examples of `split` by [target, source]."""
        size = len(self.languages)
        counts: NDArray[np.int64] = np.diff(self.directions[split]).reshape(size, size)
        return counts

    def story_keys(self) -> list[str]:
        """The percent-encoded key of every story, by story number."""
        return (self.directory / "story_keys.txt").read_text(encoding="ascii").splitlines()


def open_corpus(directory: Path | str) -> Corpus:
    """Open a finished corpus. `InputError` when there is none, or when it is of another format version."""
    directory = Path(directory)
    path = directory / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"no corpus at {directory} (manifest.json is missing): run `d2tv prepare SOURCE --out {directory}`, "
            "or set corpus.path="
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}): prepare the corpus again") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}, this release reads {FORMAT_VERSION}: prepare the corpus again"
        )
    try:
        for key in ("languages", "regions", "feature_size", "max_images", "content_hash"):
            manifest[key]  # read by others, so its absence is told here
        for name in manifest["files"]:
            if not (directory / name).is_file():
                raise InputError(
                    f"{directory / name} is missing though the manifest lists it: prepare the corpus again"
                )
        for shard in manifest["shards"]:
            tar = directory / shard["name"]
            if not tar.is_file() or tar.stat().st_size != shard["bytes"]:
                raise InputError(
                    f"{tar} is missing or not of the {shard['bytes']} bytes that the manifest says: "
                    "prepare the corpus again"
                )
        return Corpus(
            directory=directory,
            manifest=manifest,
            articles=np.load(directory / "articles.npy", mmap_mode="r"),
            edges={s: np.load(directory / f"edges-{s}.npy", mmap_mode="r") for s in SPLITS},
            directions={s: np.load(directory / f"directions-{s}.npy") for s in SPLITS},
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} lacks {error}: prepare the corpus again") from error
    except InputError:
        raise
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"the index in {directory} is damaged ({error}): prepare the corpus again") from error


def finish_corpus(directory: Path, *, name: str, languages: Sequence[str], provenance: Mapping[str, Any]) -> Corpus:
    """Merge the shards' own indexes into the corpus' and write the manifest, last and atomically.

    Shards are taken in the order of their names, so the result does not depend on who wrote which.
    """
    parts = sorted(directory.glob("*.index.npz"), key=lambda p: (SPLITS.index(p.name.split("-")[0]), p.name))
    if not parts:
        raise InputError(f"no shards in {directory}: nothing to finish")
    articles: list[NDArray[np.void]] = []
    edges: dict[str, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
    keys: list[str] = []
    shards: list[dict[str, Any]] = []
    splits: dict[str, dict[str, int]] = {s: {"stories": 0, "articles": 0, "edges": 0} for s in SPLITS}
    regions = width = 0
    rows = 0
    for number, part in enumerate(parts):
        split = part.name.split("-")[0]
        with np.load(part) as saved:
            table, pairs = saved["articles"].copy(), saved["edges"].astype(np.int64)
            part_keys = [str(key) for key in saved["keys"]]
            regions, width = max(regions, int(saved["regions"])), max(width, int(saved["width"]))
            tar_bytes = int(saved["tar_bytes"])
        tar = directory / (part.name.removesuffix(".index.npz") + ".tar")
        if not tar.is_file() or tar.stat().st_size != tar_bytes:
            raise InputError(
                f"{tar} is missing or not of the {tar_bytes} bytes its index says: delete {part} and prepare again"
            )
        table["shard"] = number
        table["story"] += len(keys)
        articles.append(table)
        edges[split].append(pairs + rows)
        rows += len(table)
        keys += part_keys
        shards.append({"name": tar.name, "bytes": tar_bytes, "stories": len(part_keys)})
        splits[split]["stories"] += len(part_keys)
        splits[split]["articles"] += len(table)
        splits[split]["edges"] += len(pairs)
    merged = np.concatenate(articles)
    _save_array(directory / "articles.npy", merged)
    for split in SPLITS:
        pairs, starts = _group_by_direction(
            np.concatenate(edges[split]) if edges[split] else np.zeros((0, 2), np.int64),
            merged["language"],
            len(languages),
        )
        _save_array(directory / f"edges-{split}.npy", pairs)
        _save_array(directory / f"directions-{split}.npy", starts)
    write_atomically(directory / "story_keys.txt", "".join(key + "\n" for key in keys).encode("ascii"))
    files = [
        "articles.npy",
        "story_keys.txt",
        *(f"{kind}-{s}.npy" for kind in ("edges", "directions") for s in SPLITS),
    ]
    tokenizer = directory / "tokenizer"
    if tokenizer.is_dir():
        files += sorted(f"tokenizer/{p.name}" for p in tokenizer.iterdir())
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "languages": list(languages),
        "regions": regions,
        "feature_size": width,
        "max_images": int(merged["images"].max(initial=0)),
        "splits": splits,
        "shards": shards,
        "files": {f: hashlib.sha256((directory / f).read_bytes()).hexdigest() for f in files},
        "provenance": dict(provenance),
    }
    # The index holds every member's CRC32C, so the hash of the index files vouches for the tars as well.
    manifest["content_hash"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    write_atomically(directory / "manifest.json", (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    return open_corpus(directory)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees all of it or nothing, also after a power cut."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _save_array(path: Path, array: NDArray[Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _group_by_direction(
    pairs: NDArray[np.int64], language: NDArray[np.uint16], size: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Sort edges by (direction, source row, target row); also where each direction begins."""
    source, target = pairs[:, 0], pairs[:, 1]
    direction = language[target].astype(np.int64) * size + language[source]
    order = np.lexsort((target, source, direction))
    starts = np.searchsorted(direction[order], np.arange(size * size + 1))
    return pairs[order].astype(np.int32), starts.astype(np.int64)
