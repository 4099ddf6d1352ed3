"""Stories -> plain WebDataset tars with their index, one shard at a time, whole or not at all.

A sample is a story: members `<key>.<language>.json` (one an article) and `<key>.roi.npy` /
`<key>.boxes.npy` where its articles share their images, else `<key>.<language>.roi.npy` and so on.
Where the pixels are kept, the images follow their features (shards/format/pixels.py).
Nothing is stored twice. Stock `webdataset` reads the result.
"""

import hashlib
import io
import json
import tarfile
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import InputError
from shards.files.checksum import crc32c
from shards.files.write import whole_file
from shards.format.index import ARTICLE, PIXELS
from shards.format.manifest import SPLITS
from shards.format.pixels import suffix_of
from shards.problems import Problems
from shards.schema import Images, Story
from shards.text.lines import has_text


def split_of(key: str) -> str:
    """train, validation or test (80/10/10) of a story, from its key alone: never from who wrote it when."""
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "train" if draw < 0.8 else "validation" if draw < 0.9 else "test"


def encode_key(key: str) -> str:
    """A story id as a tar member's stem: webdataset cuts names at the first dot, and slashes make folders."""
    encoded = urllib.parse.quote(key, safe="").replace(".", "%2E")
    # A POSIX file name holds 255 bytes, suffixes included: a longer one is cut and told apart by a hash.
    if len(encoded) > 160:
        encoded = encoded[:120].rsplit("%", 1)[0] + "~" + hashlib.sha256(key.encode()).hexdigest()[:32]
    return encoded


def shard_is_whole(tar: Path) -> bool:
    """True when this shard was written to its end: its index is renamed into place last."""
    return index_path(tar).is_file() and tar.is_file()


def index_path(tar: Path) -> Path:
    return tar.with_name(tar.name.removesuffix(".tar") + ".index.npz")


def write_shard(
    tar: Path, stories: Iterable[Story], languages: Sequence[str], problems: Problems | None = None
) -> None:
    """Write one shard and its index, each under another name until it is complete; the index comes last.

    `problems` is what `stories` counts while it is read: the index keeps it.
    Raises `InputError` for a story that breaks the schema, naming it.
    """
    if tar.name.split("-")[0] not in SPLITS:
        raise InputError(f"shard name {tar.name!r} must begin with one of {', '.join(SPLITS)}")
    number_of = {language: number for number, language in enumerate(languages)}
    rows: list[tuple[Any, ...]] = []
    edges: list[tuple[int, int]] = []
    keys: list[str] = []
    seen: set[str] = set()
    pixels: list[tuple[int, ...]] = []
    kept: set[bool] = set()
    regions = width = 0
    with whole_file(tar) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for number, story in enumerate(stories):
                _check(story, number_of)
                for sequence in _image_sequences(story):
                    if (regions, width) not in ((0, 0), sequence.roi_IRV.shape[1:]):
                        raise InputError(
                            f"story {story.key!r}: features of {sequence.roi_IRV.shape[1:]} after those of "
                            f"{(regions, width)}: a corpus has one size"
                        )
                    regions, width = sequence.roi_IRV.shape[1:]
                    kept.add(sequence.pixels is not None)
                    if len(kept) > 1:
                        raise InputError(
                            f"story {story.key!r}: a corpus keeps the pixels of all its images, or of none"
                        )
                key = encode_key(story.key)
                if key in seen:  # webdataset would merge them into one sample
                    raise InputError(f"story {story.key!r} comes twice in {tar.name}: keys must differ")
                seen.add(key)
                shared = _add_images(archive, key, story.shared_images, pixels)
                row_of: dict[str, int] = {}
                for article in story.articles:
                    stem = f"{key}.{article.language}"
                    own = (story.images or {}).get(article.language)
                    images, visual = (
                        (own, _add_images(archive, stem, own, pixels))
                        if own is not None
                        else (story.shared_images, shared)
                    )
                    count = 0
                    if images is not None:
                        count = len(images.roi_IRV)
                    record = {"url": article.url, "text": article.text, "summary": article.summary}
                    member = _add(archive, f"{stem}.json", json.dumps(record, ensure_ascii=False).encode())
                    row_of[article.language] = len(rows)
                    # The text arena is written when the shards are merged.
                    rows.append((number, number_of[article.language], count, 0, *member, *visual, 0, 0, 0, 0, 0))
                pairs = story.edges
                if pairs is None:
                    pairs = tuple((source, target) for source in row_of for target in row_of)
                edges += [(row_of[source], row_of[target]) for source, target in pairs]
                keys.append(key)
        tar_bytes = file.tell()
    columns: dict[str, Any] = {
        "articles": np.array(rows, dtype=ARTICLE),
        "edges": np.array(edges, dtype=np.int32).reshape(-1, 2),
        "keys": np.array(keys, dtype=np.str_),
        "regions": regions,
        "width": width,
        "tar_bytes": tar_bytes,
        "problems": (problems or Problems()).to_json(),
    }
    if pixels:
        columns["pixels"] = np.array(pixels, dtype=PIXELS)
    with whole_file(index_path(tar)) as file:
        np.savez(file, **columns)


def _check(story: Story, number_of: dict[str, int]) -> None:
    languages = [article.language for article in story.articles]
    if not languages or len(set(languages)) != len(languages):
        raise InputError(f"story {story.key!r}: at most one article a language and at least one, got {languages}")
    for article in story.articles:
        if article.language not in number_of:
            raise InputError(f"story {story.key!r}: language {article.language!r} is not one of the corpus' languages")
        if not (has_text(article.text) and has_text(article.summary)):
            raise InputError(f"story {story.key!r}, {article.language}: empty text or summary")
        try:
            "".join((story.key, article.url, article.text, article.summary)).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"story {story.key!r}, {article.language}: {error.reason} in its text") from error
    stray = set(story.images or {}) - set(languages)
    if stray:
        raise InputError(f"story {story.key!r}: images of {sorted(stray)}, of which it has no article")
    for images in _image_sequences(story):
        roi, boxes = images.roi_IRV, images.boxes_IR4
        if roi.ndim != 3 or boxes.shape != (*roi.shape[:2], 4) or roi.dtype != np.float16 or boxes.dtype != np.float32:
            raise InputError(
                f"story {story.key!r}: features {roi.dtype}{roi.shape} with boxes {boxes.dtype}{boxes.shape}"
            )
        if not roi.size:
            raise InputError(f"story {story.key!r}: features {roi.shape} hold nothing: None stands for no images")
        if not np.isfinite(roi).all() or not ((boxes >= 0) & (boxes <= 1)).all():  # NaN fails both comparisons
            raise InputError(f"story {story.key!r}: features must be finite and boxes lie in [0, 1]")
        if images.pixels is not None and len(images.pixels) != len(roi):
            raise InputError(
                f"story {story.key!r}: {len(images.pixels)} image files with features of {len(roi)} images"
            )
        if any(suffix_of(data) is None for data in images.pixels or ()):
            raise InputError(
                f"story {story.key!r}: an image file is neither PNG nor JPEG: shards.format.pixels.storable first"
            )
    unknown = {language for edge in story.edges or () for language in edge} - set(languages)
    if unknown:
        raise InputError(f"story {story.key!r}: an edge names {sorted(unknown)}, of which it has no article")
    if len(set(story.edges or ())) != len(story.edges or ()):
        raise InputError(f"story {story.key!r}: an edge comes twice: an example would repeat inside a pass")


def _image_sequences(story: Story) -> list[Images]:
    return [images for images in (story.shared_images, *(story.images or {}).values()) if images is not None]


def _add_images(
    archive: tarfile.TarFile, stem: str, images: Images | None, pixels: list[tuple[int, ...]]
) -> tuple[int, ...]:
    """Add images; return where their features are, as in the index. Where the files are is added to `pixels`."""
    if images is None:
        return (0, 0, 0, 0, 0, 0)
    # The boxes right behind the features: the reader has both with one read.
    roi = _add(archive, f"{stem}.roi.npy", _npy(images.roi_IRV))
    boxes = _add(archive, f"{stem}.boxes.npy", _npy(images.boxes_IR4))
    for number, data in enumerate(images.pixels or ()):
        pixels.append((0, roi[0], number, *_add(archive, f"{stem}.{number}.{suffix_of(data)}", data)))
    return (*roi, *boxes)


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> tuple[int, int, int]:
    """Append a member; its data's offset, length and CRC32C."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return archive.offset - padded, len(data), crc32c(data)
