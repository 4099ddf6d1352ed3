"""Open a corpus: the fixed-width index that is written with the shards, and the manifest that binds them.

A corpus directory holds
    <split>-<nnnnnn>.tar          WebDataset shards: one sample a story
    <split>-<nnnnnn>.index.npz    the shard's own part of the index (its existence says the shard is whole)
    articles.npy                  one ARTICLE record an article, memory-mapped; a story's articles are neighbours, and
                                  its variants (shards/schema.py) follow them
    text.bin                      the text arena, memory-mapped: every article's url, text and summary in UTF-8
    edges-<split>.npy             int32 (edges, 2): source and target article rows, grouped by direction
    directions-<split>.npy        int64 (L * L + 1): where direction target * L + source begins in the edges
    story_keys.txt                one percent-encoded key a line
    pixels.npy                    one PIXELS record an image, where the pixels are kept too
    variants.npy                  one VARIANTS record a variant, where there are some
    labels.npy                    int32, one a row of articles.npy: the number of its label, where there are some
    tokenizer/                    where the corpus trained its own
    manifest.json                 written last: a corpus without one is not a corpus
"""

import errno
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.arrays import Mask
from shards.errors import InputError, reason
from shards.files.read import read_regular
from shards.format.manifest import SPLITS, check_manifest, parse_manifest, read_manifest
from shards.format.records import ARTICLE, PIXELS, VARIANTS
from shards.format.table_checks import check_tables
from shards.locations import is_url, shown
from shards.storage.index_cache import check_ends, default_index_cache, fetch_index, read_remote_manifest
from shards.storage.remote import RemoteStorage

#: A percent-encoded key of a story, as `shards.format.writer.encode_key` writes it.
STORY_KEY = r"[A-Za-z0-9_~%-]+"
_KEYS = re.compile(rb"(?:%b\n)*" % STORY_KEY.encode())
#: Names of the files that a corpus directory holds, those of its tokenizer left out.
CORPUS_FILES = re.compile(
    rf"(?:{'|'.join(SPLITS)})-[0-9]{{6,}}\.(?:tar|index\.npz)"
    rf"|(?:articles|pixels|variants|labels|(?:edges|directions)-(?:{'|'.join(SPLITS)}))\.npy"
    r"|text\.bin|story_keys\.txt|manifest\.json"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A finished corpus, its arrays memory-mapped so that the ranks of a host share one copy.

    location: where the shards are, a directory or a URL as it may be printed.  directory: where the index is, always
    a directory.  url: the URL to read the shards from, with what may be secret in it; None for a directory.
    pixels: None where the corpus keeps features alone.  variants, labels: None where it has none.
    """

    location: str
    directory: Path
    manifest: Mapping[str, Any]
    articles: NDArray[np.void]
    text: NDArray[np.uint8]
    edges: Mapping[str, NDArray[np.int32]]
    directions: Mapping[str, NDArray[np.int64]]
    pixels: NDArray[np.void] | None = None
    variants: NDArray[np.void] | None = None
    labels: NDArray[np.int32] | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.manifest["languages"])

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(shard["name"] for shard in self.manifest["shards"])

    @property
    def content_hash(self) -> str:
        return str(self.manifest["content_hash"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the labels of all articles, which `labels` counts; empty where they have none."""
        return tuple(self.manifest.get("labels", ()))

    @property
    def why_no_pixels(self) -> str | None:
        """Return a line, with the fix, where the corpus has images and not their pixels; else None."""
        fix = "prepare it with `d2tv prepare SOURCE --pixels` into another directory"
        lacks = self.pixels is None and bool(self.manifest["regions"])
        return f"{self.location} keeps features and no pixels: {fix}" if lacks else None

    def direction_counts(self, split: str) -> NDArray[np.int64]:
        """Return (L, L) examples of `split` by [target, source]."""
        size = len(self.languages)
        counts: NDArray[np.int64] = np.diff(self.directions[split]).reshape(size, size)
        return counts

    def variant_counts(self) -> NDArray[np.int64]:
        """Return (L, L) examples of the training split whose source is a variant, by [target, source]."""
        size, language = len(self.languages), np.asarray(self.articles)["language"].astype(np.int64)
        counts: NDArray[np.int64] = np.zeros((size, size), np.int64)
        if self.variants is not None:
            np.add.at(counts, (language[self.variants["target"]], language[self.variants["row"]]), 1)
        return counts

    def is_variant(self, rows: NDArray[np.integer[Any]]) -> Mask:
        """Return True for each of `rows` that is a variant and no article."""
        if self.variants is None:
            return np.zeros(len(rows), np.bool_)
        return np.isin(rows, self.variants["row"])

    @property
    def tokenizer(self) -> Path:
        """Return the directory of the tokenizer that the corpus trained, each file of it what the manifest says.

        Raise `InputError` for a damaged file: one of the right size would be trained with.
        """
        for name, entry in self.manifest["files"].items():
            if name.startswith("tokenizer/"):
                path = self.directory / name
                found = hashlib.sha256(_read(path)).hexdigest()
                if found != entry["sha256"]:
                    raise InputError(f"{path} is not what was written (its SHA-256 differs): prepare the corpus again")
        return self.directory / "tokenizer"

    def story_keys(self) -> list[str]:
        """Return the percent-encoded key of every story. Raise `InputError` for a file that holds others."""
        path = self.directory / "story_keys.txt"
        data = _read(path)
        stories = sum(shard["stories"] for shard in self.manifest["shards"])
        if data.count(b"\n") != stories or not _KEYS.fullmatch(data):
            raise InputError(f"{path} does not hold {stories:,} percent-encoded keys: prepare the corpus again")
        return data.decode("ascii").splitlines()

    def article_rows(self, stories: Collection[str]) -> dict[tuple[str, str], int]:
        """Return (key of a story, language) -> the row of its article, for those of `stories` that are here.

        Variants are left out.
        """
        numbers = {number: key for number, key in enumerate(self.story_keys()) if key in stories}
        rows = np.flatnonzero(np.isin(self.articles["story"], list(numbers)))
        rows = rows[~self.is_variant(rows)]
        languages = self.articles["language"][rows].tolist()
        return {
            (numbers[story], self.languages[language]): row
            for story, language, row in zip(
                self.articles["story"][rows].tolist(), languages, rows.tolist(), strict=True
            )
        }


def open_corpus(location: Path | str, *, index_cache: Path | None = None) -> Corpus:
    """Open a finished corpus, in a directory or under an http(s):// or s3:// URL.

    Raise `InputError` when there is none, or when it is not what its manifest says. Look at names and sizes of the
    shards, and at the tables of the index; `d2tv verify` reads every byte. Of a URL, the index is downloaded once
    into `index_cache` (default: `default_index_cache()`), and the first and last shard stand for all.
    """
    if is_url(str(location)):
        return _open_url(str(location), index_cache or default_index_cache())
    directory = Path(location)
    manifest = read_manifest(directory)
    for entry in manifest["shards"]:
        _check_size(directory / entry["name"], entry["bytes"])
    return map_index(directory, manifest, location=str(directory))


def _open_url(url: str, index_cache: Path) -> Corpus:
    remote = RemoteStorage(url)
    try:
        manifest = parse_manifest(read_remote_manifest(remote), remote.shown("manifest.json"))
        directory = fetch_index(remote, manifest, index_cache)
        check_ends(remote, manifest)
    finally:
        remote.close()
    try:
        return map_index(directory, manifest, location=url)
    except InputError as error:  # its hashes were right, so it was changed after it came
        raise InputError(f"{error} (or remove {directory}, so that it is downloaded again)") from error


def map_index(directory: Path, manifest: Mapping[str, Any], *, location: str) -> Corpus:
    """Map the corpus whose index files lie in `directory` and whose shards lie at `location`.

    Raise `InputError` where the tables do not fit one another, the manifest or the sizes of the shards.
    """
    for name, entry in manifest["files"].items():
        _check_size(directory / name, entry["bytes"])
    try:
        corpus = Corpus(
            location=shown(location),
            url=location if is_url(location) else None,
            directory=directory,
            manifest=manifest,
            articles=map_array(directory / "articles.npy"),
            text=np.memmap(directory / "text.bin", np.uint8, mode="r"),
            edges={s: map_array(directory / f"edges-{s}.npy") for s in SPLITS},
            directions={s: np.array(map_array(directory / f"directions-{s}.npy")) for s in SPLITS},
            pixels=map_array(directory / "pixels.npy") if "pixels.npy" in manifest["files"] else None,
            variants=map_array(directory / "variants.npy") if "variants.npy" in manifest["files"] else None,
            labels=map_array(directory / "labels.npy") if "labels.npy" in manifest["files"] else None,
        )
    except Exception as error:  # numpy reads a header as Python's own syntax, and raises nearly anything
        raise InputError(f"the index in {directory} is damaged ({reason(error)}): prepare the corpus again") from error
    size = len(corpus.languages) ** 2 + 1
    if (
        (corpus.articles.dtype, corpus.articles.ndim) != (ARTICLE, 1)
        or any(pairs.dtype != np.int32 or pairs.shape[1:] != (2,) for pairs in corpus.edges.values())
        or any(starts.dtype != np.int64 or starts.shape != (size,) for starts in corpus.directions.values())
        or (corpus.pixels is not None and (corpus.pixels.dtype, corpus.pixels.ndim) != (PIXELS, 1))
        or (corpus.variants is not None and (corpus.variants.dtype, corpus.variants.ndim) != (VARIANTS, 1))
        or (corpus.labels is not None and (corpus.labels.dtype, corpus.labels.ndim) != (np.dtype(np.int32), 1))
    ):
        raise InputError(f"the index in {directory} is not of this format: prepare the corpus again")
    findings = check_tables(
        check_manifest(manifest, str(directory / "manifest.json")),
        np.asarray(corpus.articles),  # a memory map's own type makes an array object of every column
        len(corpus.text),
        dict(corpus.edges),
        dict(corpus.directions),
        corpus.pixels,
        corpus.variants,
        corpus.labels,
    )
    if findings.count:
        raise InputError(
            f"the index in {directory} is damaged ({findings.shown[0]}): `d2tv verify {directory}` lists all that is "
            "wrong; prepare the corpus again"
        )
    return corpus


def map_array(path: Path) -> NDArray[Any]:
    """Map a .npy file. Raise nearly anything for a damaged one, `OSError` for a FIFO or a directory."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "is missing, or no regular file", str(path))
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): prepare the corpus again") from error


def _check_size(path: Path, size: int) -> None:
    if not path.is_file() or path.stat().st_size != size:
        raise InputError(
            f"{path} is missing or not of the {size} bytes that the manifest says: prepare the corpus again"
        )
