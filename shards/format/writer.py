"""Write stories as WebDataset tars, each with its part of the index.

A sample is a story: members `<key>.<language>.json` (one an article: url, text, summary, and a label where it has one),
`<key>.<language>~<target>.json` (one a variant: shards/schema.py, with its text alone) and `<key>.roi.npy` /
`<key>.boxes.npy` where its articles share their images, else `<key>.<language>.roi.npy` and so on. Where the pixels are
kept, the images follow their features (shards/format/pixels.py). Nothing is stored twice.

`webdataset.TarWriter` writes the members. Whole-or-nothing files, the sync and the index stay ours: its `ShardWriter`
writes in place, under the final name.
"""

import hashlib
import io
import json
import tarfile
import urllib.parse
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.errors import InputError
from shards.files.checksum import crc32c
from shards.files.write import whole_file
from shards.format.manifest import LONGEST_LABEL, SPLITS, is_label
from shards.format.pixels import suffix_of
from shards.format.records import ARTICLE, PIXELS, VARIANTS, ArticleRecord
from shards.problems import Problems
from shards.schema import Images, Story, Variant
from shards.text.lines import has_text
from shards.variant_counts import VariantCounts


def split_of(key: str) -> str:
    """Return train, validation or test (80/10/10) for a story, from its key alone."""
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "train" if draw < 0.8 else "validation" if draw < 0.9 else "test"


def encode_key(key: str) -> str:
    """Encode a story's key as a tar member's stem: webdataset cuts names at the first dot, slashes make folders."""
    encoded = urllib.parse.quote(key, safe="").replace(".", "%2E")
    # A POSIX file name holds 255 bytes, suffixes included: a longer one is cut and told apart by a hash.
    if len(encoded) > 160:
        encoded = encoded[:120].rsplit("%", 1)[0] + "~" + hashlib.sha256(key.encode()).hexdigest()[:32]
    return encoded


def shard_is_whole(tar: Path) -> bool:
    """Return True if this shard was written to its end: its index is renamed into place last."""
    return index_path(tar).is_file() and tar.is_file()


def index_path(tar: Path) -> Path:
    return tar.with_name(tar.name.removesuffix(".tar") + ".index.npz")


def write_shard(
    tar: Path,
    stories: Iterable[Story],
    languages: Sequence[str],
    problems: Problems | None = None,
    counts: VariantCounts | None = None,
) -> None:
    """Write one shard and its index, each under another name until it is complete; the index comes last.

    problems, counts: filled while `stories` is read, and kept in the index.
    Raises `InputError` for a story that breaks the schema, naming it.
    """
    if tar.name.split("-")[0] not in SPLITS:
        raise InputError(f"shard name {tar.name!r} must begin with one of {', '.join(SPLITS)}")
    with whole_file(tar) as file:
        shard = _Shard(file, tar.name, languages)
        with closing(shard):
            for story in stories:
                shard.add(story)
        columns = shard.columns() | {"tar_bytes": file.tell(), "problems": (problems or Problems()).to_json()}
        if counts is not None and counts.counts:
            columns["variant_counts"] = counts.to_json()
    with whole_file(index_path(tar)) as file:
        np.savez(file, **columns)


class _Shard:
    """A tar that is being written, and its part of the index."""

    def __init__(self, file: BinaryIO, name: str, languages: Sequence[str]) -> None:
        from webdataset.writer import TarWriter  # imports torch: only processes that write pay for it

        # Headers without user, mode and time of the machine: the same stories give the same bytes.
        self._tar = TarWriter(file, user="", group="", mode=0o644, mtime=0, encoder=False)
        self._name = name
        self._number_of = {language: number for number, language in enumerate(languages)}
        self._rows: list[tuple[Any, ...]] = []
        self._edges: list[tuple[int, int]] = []
        self._keys: dict[str, None] = {}
        self._pixels: list[tuple[int, ...]] = []
        self._variants: list[tuple[int, int]] = []
        self._labels: dict[int, str] = {}
        self._features: tuple[int, ...] = (0, 0)
        self._keeps_pixels: bool | None = None

    def add(self, story: Story) -> None:
        _check(story, self._number_of)
        if story.variants:
            _check_variants(story, self._number_of, self._name)
        for sequence in _image_sequences(story):
            self._check_alike(story, sequence)
        key = encode_key(story.key)
        if key in self._keys:  # webdataset would merge them into one sample
            raise InputError(f"story {story.key!r} comes twice in {self._name}: keys must differ")
        shared = self._add_images(key, "", story.shared_images)
        row_of: dict[str, int] = {}
        for article in story.articles:
            own = (story.images or {}).get(article.language)
            images = own or story.shared_images
            features = self._add_images(key, f"{article.language}.", own) if own else shared
            record = {"url": article.url, "text": article.text, "summary": article.summary}
            if article.label is not None:
                record["label"] = article.label
                self._labels[len(self._rows)] = article.label
            text = self._add(key, f"{article.language}.json", json.dumps(record, ensure_ascii=False).encode())
            row_of[article.language] = len(self._rows)
            language, count = self._number_of[article.language], 0 if images is None else len(images.roi_IRV)
            # The place of the text in the arena is known when the shards are merged.
            self._rows.append((len(self._keys), language, count, 0, *text, *features, 0, 0, 0, 0, 0))
        pairs = story.edges
        if pairs is None:
            pairs = tuple((source, target) for source in row_of for target in row_of)
        self._edges += [(row_of[source], row_of[target]) for source, target in pairs]
        for variant in story.variants:
            self._add_variant(key, variant, row_of[variant.target])
        self._keys[key] = None

    def close(self) -> None:
        self._tar.close()

    def columns(self) -> dict[str, Any]:
        """Return the arrays of the shard's part of the index."""
        columns: dict[str, Any] = {
            "articles": np.array(self._rows, dtype=ARTICLE),
            "edges": np.array(self._edges, dtype=np.int32).reshape(-1, 2),
            "keys": np.array(list(self._keys), dtype=np.str_),
            "regions": self._features[0],
            "width": self._features[1],
        }
        if self._pixels:
            columns["pixels"] = np.array(self._pixels, dtype=PIXELS)
        if self._variants:
            columns["variants"] = np.array(self._variants, dtype=VARIANTS)
        if self._labels:
            columns["labels"] = np.array([self._labels.get(row, "") for row in range(len(self._rows))], dtype=np.str_)
        return columns

    def _add_variant(self, key: str, variant: Variant, target: int) -> None:
        content = json.dumps({"url": "", "text": variant.text, "summary": ""}, ensure_ascii=False).encode()
        text = self._add(key, f"{variant.language}~{variant.target}.json", content)
        self._edges.append((len(self._rows), target))
        self._variants.append((len(self._rows), target))
        # All else is its article's: the images, which are stored once.
        record = ArticleRecord(*self._rows[target])._replace(language=self._number_of[variant.language])
        self._rows.append(record._replace(json_offset=text[0], json_length=text[1], json_crc=text[2]))

    def _check_alike(self, story: Story, images: Images) -> None:
        size = images.roi_IRV.shape[1:]
        if self._features not in ((0, 0), size):
            raise InputError(
                f"story {story.key!r}: features of {size} after those of {self._features}: a corpus has one size"
            )
        self._features = size
        if self._keeps_pixels not in (None, images.pixels is not None):
            raise InputError(f"story {story.key!r}: a corpus keeps the pixels of all its images, or of none")
        self._keeps_pixels = images.pixels is not None

    def _add_images(self, key: str, prefix: str, images: Images | None) -> tuple[int, ...]:
        """Add features, boxes and pixels; return offset, length and CRC32C of the first two."""
        if images is None:
            return (0, 0, 0, 0, 0, 0)
        # The boxes right behind the features: the reader has both with one read.
        roi = self._add(key, f"{prefix}roi.npy", _npy(images.roi_IRV))
        boxes = self._add(key, f"{prefix}boxes.npy", _npy(images.boxes_IR4))
        for number, data in enumerate(images.pixels or ()):
            place = self._add(key, f"{prefix}{number}.{suffix_of(data)}", data)
            self._pixels.append((0, roi[0], number, *place))
        return (*roi, *boxes)

    def _add(self, key: str, suffix: str, data: bytes) -> tuple[int, int, int]:
        """Append one member; return offset, length and CRC32C of its data.

        One call a member, because TarWriter sorts those of one call, and boxes would come before features.
        """
        self._tar.write({"__key__": key, suffix: data})
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self._tar.tarstream.offset - padded, len(data), crc32c(data)


def _check(story: Story, number_of: dict[str, int]) -> None:
    languages = [article.language for article in story.articles]
    if not languages or len(set(languages)) != len(languages):
        raise InputError(f"story {story.key!r}: at most one article a language and at least one, got {languages}")
    for article in story.articles:
        if article.language not in number_of:
            raise InputError(f"story {story.key!r}: language {article.language!r} is not one of the corpus' languages")
        if not (has_text(article.text) and has_text(article.summary)):
            raise InputError(f"story {story.key!r}, {article.language}: empty text or summary")
        if article.label is not None and not is_label(article.label):
            raise InputError(
                f"story {story.key!r}, {article.language}: {article.label[:80]!r} is no label: one line of at most "
                f"{LONGEST_LABEL} characters"
            )
        try:
            "".join((story.key, article.url, article.text, article.summary, article.label or "")).encode()
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


def _check_variants(story: Story, number_of: dict[str, int], shard: str) -> None:
    if not shard.startswith("train-"):
        raise InputError(f"story {story.key!r}: it has variants, which stories of the training split alone may have")
    articles = {article.language for article in story.articles}
    pairs = [(variant.language, variant.target) for variant in story.variants]
    for language, target in pairs:
        if target not in articles or language not in number_of or language == target:
            raise InputError(
                f"story {story.key!r}: a variant is of an article of it, in another language of the corpus, got "
                f"{language!r} of {target!r}"
            )
    if len(set(pairs)) != len(pairs):
        raise InputError(f"story {story.key!r}: a variant comes twice: at most one a direction")
    for variant in story.variants:
        if not has_text(variant.text):
            raise InputError(f"story {story.key!r}: the variant in {variant.language} of {variant.target} is empty")


def _image_sequences(story: Story) -> list[Images]:
    return [images for images in (story.shared_images, *(story.images or {}).values()) if images is not None]


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array))
    return buffer.getvalue()
