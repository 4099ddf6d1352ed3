"""Read documents for `d2tv summarize` from text files, JSONL files and standard input, all in UTF-8."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shards.errors import InputError
from shards.files.read import open_regular
from shards.text.lines import LONGEST, check_encodable, decode, parse_object, read_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text, its languages as a person typed them, and its images.

    where: its name in errors.  record: the JSONL line that it came from.
    """

    text: str
    source: str | None
    target: str | None
    images: tuple[Path, ...]
    where: str
    record: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """Options of the command line for documents without their own: languages as typed, images."""

    source: str | None
    target: str | None
    images: tuple[Path, ...]


def is_jsonl(name: str) -> bool:
    """Return True for the name of a JSONL file."""
    return name.lower().endswith(".jsonl")


def read_documents(name: str, defaults: Defaults) -> Iterator[Document]:
    """Yield the document of a text file, or those in the lines of a JSONL file.

    name: its path; "-": standard input, as text.  Raises `InputError`, which names file and line, where it cannot be
    read, is not UTF-8, or is no document.
    """
    if name == "-":
        if sys.stdin is None:  # a shell's `<&-`
            raise InputError("standard input is closed: name a file")
        yield _text(sys.stdin.buffer, "standard input", defaults)
        return
    try:
        with open_regular(Path(name), pipes=True) as file:
            if is_jsonl(name):
                yield from _lines(file, Path(name), defaults)
            else:
                yield _text(file, name, defaults)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error


def _text(file: BinaryIO, where: str, defaults: Defaults) -> Document:
    try:
        data = file.read(LONGEST + 1)
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}") from error
    if len(data) > LONGEST:
        raise InputError(
            f"{where} is longer than {LONGEST >> 20} MiB: give one document a file, or one a line of JSONL"
        )
    try:
        text = decode(data)
    except ValueError as error:
        raise InputError(f"{where} {error}") from error
    return Document(text=text, source=defaults.source, target=defaults.target, images=defaults.images, where=where)


def _lines(file: BinaryIO, path: Path, defaults: Defaults) -> Iterator[Document]:
    for number, _, line in read_lines(file):
        if line.strip(b"\xef\xbb\xbf \t\r\n"):
            where = f"{path}, line {number}"
            try:
                record = parse_object(line)
                _check_writable(record)
            except ValueError as error:
                raise InputError(f"{where} {error}") from error
            yield _of_record(record, path.parent, where, defaults)


def _check_writable(record: dict[str, Any]) -> None:
    """Raise ValueError where a record cannot be written back with its summary."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError("holds a number that JSON has not: NaN, or one too large") from error
    check_encodable(text)


def _of_record(record: dict[str, Any], folder: Path, where: str, defaults: Defaults) -> Document:
    """Return the document of a line: text, and optionally from, to and images (paths relative to the file)."""
    if not isinstance(record.get("text"), str):
        raise InputError(f'{where} is no object with a "text"')
    images = record.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise InputError(f'{where}: "images" is no list of paths')
    for key in ("from", "to"):
        if not isinstance(record.get(key, ""), str):
            raise InputError(f'{where}: "{key}" is no language')
    return Document(
        text=record["text"],
        source=record.get("from", defaults.source),
        target=record.get("to", defaults.target),
        images=tuple(folder / image for image in images),
        where=where,
        record=record,
    )
