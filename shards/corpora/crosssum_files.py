"""The JSONL files of XL-Sum and CrossSum: which languages and split a name says, and the records in them.

XL-Sum:   {language}_{train,val,test}.jsonl         {id, url, title, summary, text}
CrossSum: {source}-{target}_{train,val,test}.jsonl  {source_url, target_url, summary, text}
A pair's text is the source's document, its summary the target's.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.corpora.listing import Listing
from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems

#: How much a split is held out: what is in several goes to the last of them. In the order of shards.index.SPLITS.
SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}

_NAME = re.compile(r"(?P<source>\w+?)(-(?P<target>\w+?))?_(?P<split>train|val|test)\.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFile:
    """A file of articles in `source` (target None), or of pairs. split: as `SPLIT_NUMBERS`."""

    name: str
    size: int
    source: str
    target: str | None
    split: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A good line: where it begins and how long it is in bytes, its number from 1, its fields."""

    offset: int
    length: int
    line: int
    fields: dict[str, Any]


def text_files(listing: Listing, problems: Problems) -> list[TextFile]:
    """The files of articles, then those of pairs, each by name. Counted: "unknown file name", "unknown language"."""
    found = []
    for name, size in listing.files:
        if not name.endswith(".jsonl"):
            continue
        match = _NAME.fullmatch(name.rpartition("/")[2])
        if match is None:
            problems.count("unknown file name", name)
        elif unknown := {match["source"], match["target"] or match["source"]} - LANGUAGE_CODES.keys():
            problems.count("unknown language", f"{name}: {', '.join(sorted(unknown))}")
        else:
            split = SPLIT_NUMBERS[match["split"]]
            found.append(TextFile(name=name, size=size, source=match["source"], target=match["target"], split=split))
    return sorted(found, key=lambda file: (file.target is not None, file.name))


def read_records(root: Path, file: TextFile, problems: Problems) -> Iterator[Record]:
    """The good lines of a file, one at a time. Counted: "broken line", "empty text", "empty summary"."""
    urls = ("url",) if file.target is None else ("source_url", "target_url")
    offset = 0
    with open(root / file.name, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            begin, offset = offset, offset + len(line)
            if not line.strip():
                continue
            try:
                fields = parse_record(line, (*urls, "text", "summary"))
            except ValueError as error:
                problems.count("broken line", f"{file.name}:{number}: {error}")
                continue
            empty = next((key for key in ("text", "summary") if not fields[key].strip()), None)
            if empty:
                problems.count(f"empty {empty}", f"{file.name}:{number}")
                continue
            yield Record(offset=begin, length=len(line), line=number, fields=fields)


def parse_record(line: bytes, keys: Sequence[str]) -> dict[str, Any]:
    """The object on a line; `ValueError` says what is wrong when it lacks one of `keys` as a proper string."""
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({type(error).__name__})") from error
    for key in keys:
        value = fields.get(key) if isinstance(fields, dict) else None
        if not isinstance(value, str):
            raise ValueError(f"no {key!r}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{key!r} holds half a surrogate pair") from error
        if key.endswith("url") and not value.strip():
            raise ValueError(f"empty {key!r}")
    return dict(fields)


def text_at(handle: int, name: str, offset: int, length: int) -> dict[str, Any]:
    """The record at a place of an open file, which a reader of the whole file found good.

    Raises: InputError when it is no longer there.
    """
    try:
        return parse_record(os.pread(handle, length, offset), ("text", "summary"))
    except ValueError as error:
        raise InputError(f"{name} changed while it was read: remove the .partial directory, prepare again") from error
