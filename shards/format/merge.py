"""Merge the shards' own indexes into the corpus' index, text arena and manifest, in bounded memory."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.files.checksum import crc32c
from shards.files.write import left_overs, whole_file, write_atomically
from shards.format.index import CORPUS_FILES, Corpus, open_corpus
from shards.format.labels import merge_labels
from shards.format.manifest import FORMAT_VERSION, INDEX_FILES, SPLITS, content_hash
from shards.format.part_index import parse_texts, read_part
from shards.format.records import ARTICLE, PIXELS, VARIANTS
from shards.problems import Problems
from shards.variant_counts import VariantCounts


def finish_corpus(directory: Path, *, name: str, languages: Sequence[str], provenance: Mapping[str, Any]) -> Corpus:
    """Merge the shards' own indexes into the corpus' and write the manifest, last and atomically.

    Shards are taken in the order of their names, so the result does not depend on who wrote which. Every article
    is read back from its tar against its CRC32C; `InputError` names a tar that is not its index's.
    """
    for left_over in left_overs(directory, CORPUS_FILES):  # what a kill cut short
        left_over.unlink()
    parts = sorted(directory.glob("*.index.npz"), key=lambda p: (SPLITS.index(p.name.split("-")[0]), p.name))
    if not parts:
        raise InputError(f"no shards in {directory}: nothing to finish")
    shards = _merge_articles(directory, parts, len(languages))
    sizes = {(shard["regions"], shard["width"]) for shard in shards if shard["width"]}
    if len(sizes) > 1:
        raise InputError(
            f"the shards in {directory} hold features of several sizes, {sorted(sizes)}: prepare them anew"
        )
    pixels = _merge_pixels(directory, parts)
    _merge_variants(directory, shards)
    labels = merge_labels(directory, parts)
    size = len(languages)
    for split in SPLITS:
        _merge_edges(directory, split, [shard for shard in shards if shard["name"].startswith(f"{split}-")], size)
    write_manifest(
        directory,
        name=name,
        languages=languages,
        regions=max(shard["regions"] for shard in shards),
        feature_size=max(shard["width"] for shard in shards),
        max_images=max(shard["max_images"] for shard in shards),
        pixels=pixels,
        labels=labels,
        splits={
            split: {
                what: total
                for what in ("stories", "articles", "edges", "variants")
                if (total := sum(shard[what] for shard in shards if shard["name"].startswith(f"{split}-")))
                or what != "variants"
            }
            for split in SPLITS
        },
        shards=[{key: shard[key] for key in ("name", "bytes", "stories")} for shard in shards],
        provenance=provenance,
    )
    return open_corpus(directory)


def write_manifest(
    directory: Path,
    *,
    name: str,
    languages: Sequence[str],
    regions: int,
    feature_size: int,
    max_images: int,
    pixels: bool = False,
    labels: Sequence[str] = (),
    splits: Mapping[str, Mapping[str, int]],
    shards: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> None:
    """Write manifest.json over the index files that lie in `directory`, last and atomically.

    What is not stored is not named, so that the hash of a corpus without pixels does not depend on there being such;
    nor that of one without variants or labels.
    """
    files = list(INDEX_FILES)
    if pixels:
        files.append("pixels.npy")
    if any(counts.get("variants") for counts in splits.values()):
        files.append("variants.npy")
    if labels:
        files.append("labels.npy")
    tokenizer = directory / "tokenizer"
    if tokenizer.is_dir():
        files += sorted(f"tokenizer/{p.name}" for p in tokenizer.iterdir())
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "languages": list(languages),
        "regions": regions,
        "feature_size": feature_size,
        "max_images": max_images,
        **({"pixels": True} if pixels else {}),
        **({"labels": list(labels)} if labels else {}),
        "splits": splits,
        "shards": shards,
        "files": {file: _describe(directory / file) for file in files},
        "provenance": dict(provenance),
    }
    manifest["content_hash"] = content_hash(manifest)
    write_atomically(directory / "manifest.json", (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def shard_problems(directory: Path) -> Problems:
    """Add up what was wrong with the input of all shards in `directory`, in the order of their names."""
    found = Problems()
    for part in sorted(directory.glob("*.index.npz")):
        found.add(Problems.from_json(str(read_part(part)["problems"])))
    return found


def shard_variant_counts(directory: Path) -> VariantCounts:
    """Add up the counts of variants of all shards in `directory`."""
    found = VariantCounts()
    for part in sorted(directory.glob("*.index.npz")):
        if (kept := read_part(part).get("variant_counts")) is not None:
            found.add(VariantCounts.from_json(str(kept)))
    return found


def _merge_articles(directory: Path, parts: Sequence[Path], languages: int) -> list[dict[str, Any]]:
    """Write articles.npy, text.bin and story_keys.txt; return the facts of each shard for the manifest."""
    shards: list[dict[str, Any]] = []
    rows = stories = arena = 0
    with (
        whole_file(directory / "articles.npy") as articles,
        whole_file(directory / "text.bin") as text,
        whole_file(directory / "story_keys.txt") as keys,
    ):
        total = sum(len(read_part(part)["articles"]) for part in parts)
        _begin_array(articles, ARTICLE, (total,))
        for number, part in enumerate(parts):
            saved = read_part(part)
            table, part_keys = saved["articles"], [str(key) for key in saved["keys"]]
            if int(table["language"].max(initial=0)) >= languages:
                raise InputError(
                    f"{part} is damaged (it names a language that is none of {languages}): delete it and prepare again"
                )
            tar_bytes = int(saved["tar_bytes"])
            tar = directory / (part.name.removesuffix(".index.npz") + ".tar")
            if not tar.is_file() or tar.stat().st_size != tar_bytes:
                raise InputError(
                    f"{tar} is missing or not of the {tar_bytes} bytes its index says: delete {part} and prepare again"
                )
            table["shard"] = number
            table["story"] += stories
            arena = _copy_texts(tar, part, table, text, arena)
            articles.write(table.tobytes())
            keys.write("".join(key + "\n" for key in part_keys).encode("ascii"))
            shards.append(
                {
                    "name": tar.name,
                    "bytes": tar_bytes,
                    "stories": len(part_keys),
                    "articles": len(table) - len(saved.get("variants", ())),
                    "variants": len(saved.get("variants", ())),
                    "edges": len(saved["edges"]),
                    "first_row": rows,
                    "part": part,
                    "regions": int(saved["regions"]),
                    "width": int(saved["width"]),
                    "max_images": int(table["images"].max(initial=0)),
                }
            )
            rows += len(table)
            stories += len(part_keys)
        if not arena:  # nothing can be mapped from an empty file
            text.write(b"\0")
    return shards


def _copy_texts(tar: Path, part: Path, table: NDArray[np.void], text: Any, arena: int) -> int:
    """Append the texts of a shard to the arena and note in `table` where they are; the arena's new length."""
    handle = os.open(tar, os.O_RDONLY)
    try:
        for record in table:
            data = os.pread(handle, int(record["json_length"]), int(record["json_offset"]))
            if crc32c(data) != int(record["json_crc"]):
                raise InputError(f"{tar} is not the tar that {part} was written with: delete both and prepare again")
            pieces, problem = parse_texts(data)
            if pieces is None:
                raise InputError(f"{tar}: the article at byte {record['json_offset']} {problem}: prepare it again")
            joined = b"".join(pieces)
            text.write(joined)
            record["text_offset"] = arena
            record["url_length"], record["text_length"], record["summary_length"] = map(len, pieces)
            record["text_crc"] = crc32c(joined)
            arena += len(joined)
    finally:
        os.close(handle)
    return arena


def _merge_pixels(directory: Path, parts: Sequence[Path]) -> bool:
    """Write pixels.npy; False where the shards keep no pixels. `InputError` where only some of them do."""
    counts: list[int] = []
    lacking = None
    for part in parts:
        saved = read_part(part)
        counts.append(len(saved["pixels"]) if "pixels" in saved else 0)
        if not counts[-1] and saved["articles"]["images"].any():
            lacking = part
    total = sum(counts)
    if not total:
        return False
    if lacking is not None:
        raise InputError(f"{lacking} is of images without their pixels, others have them: prepare them anew")
    with whole_file(directory / "pixels.npy") as file:
        _begin_array(file, PIXELS, (total,))
        for number, part in enumerate(parts):
            if counts[number]:
                table = read_part(part)["pixels"]
                table["shard"] = number
                file.write(table.tobytes())
    return True


def _merge_variants(directory: Path, shards: Sequence[Mapping[str, Any]]) -> None:
    """Write variants.npy where there is one."""
    total = sum(shard["variants"] for shard in shards)
    if not total:
        return
    with whole_file(directory / "variants.npy") as file:
        _begin_array(file, VARIANTS, (total,))
        for shard in shards:
            if shard["variants"]:
                table = read_part(shard["part"])["variants"]
                for name in ("row", "target"):
                    table[name] += shard["first_row"]
                file.write(table.tobytes())


def _merge_edges(directory: Path, split: str, shards: Sequence[Mapping[str, Any]], languages: int) -> None:
    """Write the split's edges sorted by (direction, source row, target row), and where each direction begins.

    A counting sort in two passes over the shards: an edge joins articles of one story, so sorting each shard's own
    edges by row, shard after shard, sorts them all.
    """
    counts = np.zeros(languages * languages, np.int64)
    for shard in shards:
        counts += np.bincount(_directions(shard["part"], languages)[1], minlength=languages * languages)
    starts = np.concatenate([[0], np.cumsum(counts)])
    with whole_file(directory / f"directions-{split}.npy") as file:
        np.save(file, starts)
    with whole_file(directory / f"edges-{split}.npy") as file:
        _begin_array(file, np.dtype("<i4"), (int(starts[-1]), 2))
        begin = file.tell()
        file.truncate(begin + 8 * int(starts[-1]))
        filled = starts[:-1].copy()
        for shard in shards if starts[-1] else ():
            pairs, direction = _directions(shard["part"], languages)
            order = np.lexsort((pairs[:, 1], pairs[:, 0], direction))
            of_shard = np.bincount(direction, minlength=languages * languages)
            place = np.arange(len(pairs)) - np.repeat(np.cumsum(of_shard) - of_shard, of_shard)
            # Mapped anew for each shard, so that what was written need not stay in memory.
            table = np.memmap(file, np.int32, mode="r+", offset=begin, shape=(int(starts[-1]), 2))
            table[filled[direction[order]] + place] = pairs[order] + shard["first_row"]
            filled += of_shard
        file.seek(0, os.SEEK_END)


def _directions(part: Path, languages: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a shard's edges by its own rows, and each one's direction target * L + source."""
    saved = read_part(part)
    pairs, language = saved["edges"].astype(np.int64), saved["articles"]["language"].astype(np.int64)
    return pairs, language[pairs[:, 1]] * languages + language[pairs[:, 0]]


def _begin_array(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _describe(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
