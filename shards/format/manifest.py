"""Read manifest.json of a corpus, and check types and ranges of everything in it that the code reads."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError

from shards.errors import InputError
from shards.files.read import parse_json, read_regular
from shards.text.lines import has_text

FORMAT_VERSION = 2
SPLITS = ("train", "validation", "test")
#: The files of the index that every corpus has.
INDEX_FILES = (
    "articles.npy",
    "text.bin",
    "story_keys.txt",
    *(f"{kind}-{split}.npy" for kind in ("edges", "directions") for split in SPLITS),
)
#: The longest name of a file that Linux file systems take.
_LONGEST_NAME = 255
#: Characters that an article's label may have.
LONGEST_LABEL = 200


def is_label(text: str) -> bool:
    """Return True if the text can be an article's label: visible, of one line, without spaces around it."""
    one_line = text.splitlines() == [text] and text.strip() == text
    return one_line and len(text) <= LONGEST_LABEL and has_text(text)


def _file_name(name: str) -> str:
    """Refuse what is no path below the corpus: names become paths here, and the manifest may come from elsewhere."""
    if name.isascii() and len(name) <= _LONGEST_NAME and not {"/", "\0"} & set(name) and name.strip("."):
        return name  # as nearly all are, and there may be thousands
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError(f"{name[:80]!r} is no file of a corpus of ours")
    if any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in path.parts):
        raise ValueError(f"{name[:80]!r}... is longer than the {_LONGEST_NAME} bytes that a file's name may have")
    return name


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names a language twice")
    return names


def _sorted_labels(names: tuple[str, ...]) -> tuple[str, ...]:
    if list(names) != sorted(set(names)) or not all(map(is_label, names)):
        raise ValueError(f"is no sorted list of different labels: lines of at most {LONGEST_LABEL} characters")
    return names


#: A number of things or bytes. Python's integers have no end, those of the index have.
_Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]
#: What fits into the index' fields of 16 bits.
_Small = Annotated[int, Field(strict=True, ge=0, lt=1 << 16)]
_FileName = Annotated[str, AfterValidator(_file_name)]
_ShardName = Annotated[_FileName, StringConstraints(pattern=rf"^({'|'.join(SPLITS)})-[^/]*\.tar$")]
_Language = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class FileClaim(BaseModel):
    """Size and hash of one file of the index."""

    bytes: _Count
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class ShardClaim(BaseModel):
    """Size and stories of one shard."""

    name: _ShardName
    bytes: _Count
    stories: _Count

    @property
    def split(self) -> str:
        return self.name.split("-")[0]


class SplitClaim(BaseModel):
    """Counts of one split. articles: without its variants, which have edges too."""

    stories: _Count
    articles: _Count
    edges: _Count
    variants: _Count = 0


class Manifest(BaseModel):
    """The part of manifest.json that the rest of the corpus is held against."""

    languages: Annotated[tuple[_Language, ...], Field(min_length=1, max_length=1 << 12), AfterValidator(_distinct)]
    regions: _Small
    feature_size: _Count
    max_images: _Small
    pixels: bool = False
    labels: Annotated[tuple[str, ...], AfterValidator(_sorted_labels)] = ()
    splits: dict[str, SplitClaim]
    shards: tuple[ShardClaim, ...]
    files: dict[_FileName, FileClaim]
    content_hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    provenance: dict[str, Any] = {}

    @property
    def has_variants(self) -> bool:
        return any(claim.variants for claim in self.splits.values())

    @property
    def first_stories(self) -> NDArray[np.int64]:
        """Return (shards + 1) the first story of every shard, and the number of stories."""
        return np.cumsum([0, *(shard.stories for shard in self.shards)], dtype=np.int64)


def check_manifest(values: Mapping[str, Any], where: str) -> Manifest:
    """Check types and ranges of a manifest. Raise `InputError` that names the file, `where`, and the key at fault."""
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])[:200]
        if first["type"] == "missing":
            raise InputError(f"{where} lacks {key!r}: prepare the corpus again") from error
        raise InputError(f"{where}, {key}: {first['msg']}: prepare the corpus again") from error


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest in `directory`, checked against its own hash. Raise `InputError` as `parse_manifest`."""
    path = directory / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"no corpus at {directory} (manifest.json is missing): run `d2tv prepare SOURCE --out {directory}`, "
            "or set corpus.path="
        )
    return _checked(read_values(path), str(path))


def parse_manifest(data: bytes, where: str) -> dict[str, Any]:
    """Parse a manifest and check its types and its own hash. Raise `InputError` that names the file, `where`."""
    return _checked(_parse_values(data, where), where)


def read_values(path: Path) -> dict[str, Any]:
    """Read a manifest of this release's format, unchecked otherwise. Raise `InputError`."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): mend its permissions") from error
    return _parse_values(data, str(path))


def _parse_values(data: bytes, where: str) -> dict[str, Any]:
    try:
        values = parse_json(data.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({error}): prepare the corpus again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{where} has format version {version}, this release reads {FORMAT_VERSION}: remove the "
            "directory and prepare the corpus again"
        )
    return dict(values)


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    claims = check_manifest(values, where)
    for missing in [name for name in INDEX_FILES if name not in claims.files]:
        raise InputError(f"{where} does not vouch for {missing}: prepare the corpus again")
    for missing in [split for split in SPLITS if split not in claims.splits]:
        raise InputError(f"{where} lacks the split {missing}: prepare the corpus again")
    if claims.content_hash != content_hash(values):
        raise InputError(f"{where} was changed after it was written (its hash differs): prepare the corpus again")
    return values


def content_hash(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything else in the manifest.

    The index files, whose hashes it holds, hold the CRC32C of every member of every tar: so it vouches for the whole
    corpus.
    """
    rest = {key: value for key, value in manifest.items() if key != "content_hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
