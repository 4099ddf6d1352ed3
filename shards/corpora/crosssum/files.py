"""Read the JSONL files of XL-Sum and CrossSum: languages and split by their names, and their records.

XL-Sum:   {language}_{train,val,test}.jsonl         {id, url, title, summary, text}
CrossSum: {source}-{target}_{train,val,test}.jsonl  {source_url, target_url, summary, text}
A pair's text is the source's document, its summary the target's.

They may be compressed (.gz, .bz2, .xz), and lie in archives of any name, as both are published
(english_XLSum_v2.0.tar.bz2).
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from shards.corpora.listing import Listing, kind_of_other, list_files
from shards.corpora.packed import ARCHIVES, DamagedFileError, Unpacked, is_compressed, packed_lines
from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems
from shards.text.lines import has_text, parse_strings

#: How much a split is held out: what is in several goes to the last of them. Ordered as SPLITS of format/manifest.py.
SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}

#: How the names of files of text and of features end, in small letters.
LINES = (".jsonl", ".jsonl.gz", ".jsonl.bz2", ".jsonl.xz")
TEXTS = (*LINES, *ARCHIVES)
FEATURES = (".h5", ".hdf5")

_NAME = re.compile(r"(?P<source>\w+?)(-(?P<target>\w+?))?_(?P<split>train|val|test)\.jsonl(\.(gz|bz2|xz))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFile:
    """A file of articles in `source` (target None), or of pairs.

    name: path below the root, behind an archive's that of its member.  split: as `SPLIT_NUMBERS`.
    packed: it is compressed or in an archive, so that a place in its text is none in a file.
    """

    name: str
    size: int
    source: str
    target: str | None
    split: int
    packed: bool
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A good line: where it begins in the file's text, its number from 1, its bytes, its fields."""

    offset: int
    line: int
    content: bytes
    fields: dict[str, Any]


def list_data(data: Path | None, *, without_images: bool) -> Listing:
    """List the files of text below `data`, and those of features unless `without_images`.

    Raises: InputError where one of the two kinds is missing.
    """
    if data is None:
        raise InputError("crosssum needs --data DIR: a directory of XL-Sum and CrossSum .jsonl files")

    def kind(other: str) -> str | None:
        return None if without_images and other.lower().endswith(FEATURES) else kind_of_other(other)

    listing = list_files(data, TEXTS if without_images else (*TEXTS, *FEATURES), kind)
    texts = [name for name, _ in listing.files if name.lower().endswith(TEXTS)]
    if not texts:
        raise InputError(
            f"no .jsonl file below {data}, nor an archive: --data must hold XL-Sum's {{language}}_train.jsonl and "
            f"so on{listing.others()}"
        )
    if not without_images and len(texts) == len(listing.files):
        raise InputError(
            f"no feature file (.h5, .hdf5) below {data}: add MM-Sum's, or build text alone with --without-images"
        )
    return listing


def text_files(
    listing: Listing, unpacked: Unpacked, problems: Problems, progress: Callable[[int], None] | None = None
) -> list[TextFile]:
    """Return the files of articles, then those of pairs, each in the order of their names without folders.

    The order is that of the same files unpacked. Archives are unpacked into `unpacked`, which must stay open.
    progress: called with the bytes of the archives that are done.

    Counted: "unknown file name", "unknown language", "other file", "damaged file".
    """
    found: list[TextFile] = []
    done = 0
    for name, size in listing.files:
        path = listing.root / name
        if name.lower().endswith(LINES):
            with open(path, "rb") as file:
                packed = is_compressed(file)
            _add_file(found, name, size, packed, partial(_open, path), problems)
        elif name.lower().endswith(ARCHIVES):
            try:
                for member in unpacked.members(path, lambda member: member.lower().endswith(LINES)):
                    if member.open is not None:
                        _add_file(found, f"{name}/{member.name}", member.size, True, member.open, problems)
                    else:
                        problems.count(kind_of_other(member.name), f"{name}/{member.name}")
            except DamagedFileError as error:
                problems.count("damaged file", f"{name}: {error}")
            done += size
            if progress:
                progress(done)
    return sorted(found, key=lambda file: (file.target is not None, _base(file.name), file.packed, file.name))


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


def _base(name: str) -> str:
    return PurePosixPath(name.lower()).name.partition(".")[0]


def _add_file(
    found: list[TextFile], name: str, size: int, packed: bool, open_file: Callable[[], BinaryIO], problems: Problems
) -> None:
    base = PurePosixPath(name.lower()).name
    match = _NAME.fullmatch(base)
    if match is None:
        problems.count(kind_of_other(base), name)
    elif unknown := {match["source"], match["target"] or match["source"]} - LANGUAGE_CODES.keys():
        problems.count("unknown language", f"{name}: {', '.join(sorted(unknown))}")
    else:
        found.append(
            TextFile(
                name=name,
                size=size,
                source=match["source"],
                target=match["target"],
                split=SPLIT_NUMBERS[match["split"]],
                packed=packed,
                open=open_file,
            )
        )


def digest_of(file: TextFile) -> bytes | None:
    """Return a hash of a file's text, equal for equal texts; None for one that is damaged."""
    ignored = Problems()
    digest = hashlib.blake2b()
    for _, _, line in _lines(file, ignored):
        digest.update(line)
    return None if ignored.counts else digest.digest()


def read_records(file: TextFile, problems: Problems) -> Iterator[Record]:
    """Yield the good lines of a file, one at a time.

    Counted: "broken line", "empty text", "empty summary", "empty file", and "damaged file" behind the last line.
    """
    urls = ("url",) if file.target is None else ("source_url", "target_url")
    number = 0
    for number, offset, line in _lines(file, problems):
        if not line.strip(b"\xef\xbb\xbf \t\r\n"):
            continue
        try:
            fields = parse_record(line, (*urls, "text", "summary"))
        except ValueError as error:
            problems.count("broken line", f"{file.name}:{number}: {error}")
            continue
        empty = next((key for key in ("text", "summary") if not has_text(fields[key])), None)
        if empty:
            problems.count(f"empty {empty}", f"{file.name}:{number}")
            continue
        yield Record(offset=offset, line=number, content=line, fields=fields)
    if number == 0:
        problems.count("empty file", file.name)


def _lines(file: TextFile, problems: Problems) -> Iterator[tuple[int, int, bytes]]:
    with file.open() as raw:
        yield from packed_lines(raw, file.name, problems)


def parse_record(line: bytes, keys: Sequence[str]) -> dict[str, Any]:
    """Return the object on a line.

    Raises: ValueError, which says what is wrong, when it lacks one of `keys` as a proper string.
    """
    fields = parse_strings(line, keys)
    for key in keys:
        if key.endswith("url") and not has_text(fields[key]):
            raise ValueError(f"has an empty {key!r}")
    return fields


def text_at(handle: int, name: str, offset: int, length: int) -> dict[str, Any]:
    """Return the record at a place of an open file, which a reader of the whole file found good.

    Raises: InputError when it is no longer there.
    """
    try:
        return parse_record(os.pread(handle, length, offset), ("text", "summary"))
    except ValueError as error:
        raise InputError(f"{name} changed while it was read: remove the .partial directory, prepare again") from error
