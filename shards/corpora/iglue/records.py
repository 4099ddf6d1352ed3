"""Read the records of a file of annotations one by one: lines of JSON, or a JSON list or object of any size."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shards.corpora.packed import damage_of, decompressed, packed_lines
from shards.problems import Problems
from shards.text.lines import LONGEST, parse_object

_BLOCK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")
_KEY = re.compile(r'("(?:[^"\\]|\\.)*")\s*:\s*')
_CLOSING = {"{": "}", "[": "]"}
_END = object()


def read_records(
    root: Path, name: str, problems: Problems, *, lines: bool
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield (where it is, offset in the text, record) of each. One of an object has its key as `question_id`.

    lines: each is a line of its own; else the file is one list or object.

    Counted: "broken line", "empty file", and "damaged file", behind the last record that can be read.
    """
    empty, damaged = True, problems.counts.get("damaged file")
    with open(root / name, "rb") as raw:
        for number, offset, record in (_lines if lines else _items)(raw, name, problems):
            empty, where = False, f"{name}{':' if lines else ', record '}{number}"
            if isinstance(record, dict):
                yield where, offset, record
            else:
                problems.count("broken line", f"{where}: {record}")
    if empty and problems.counts.get("damaged file") == damaged:
        problems.count("empty file", name)


def _lines(raw: BinaryIO, name: str, problems: Problems) -> Iterator[tuple[int, int, dict[str, Any] | str]]:
    """Yield number, offset, and the record of a line or what is wrong with it."""
    for number, offset, line in packed_lines(raw, name, problems):
        if line.strip(b"\xef\xbb\xbf \t\r\n"):
            try:
                yield number, offset, parse_object(line)
            except ValueError as error:
                yield number, offset, str(error)


def _items(raw: BinaryIO, name: str, problems: Problems) -> Iterator[tuple[int, int, dict[str, Any] | str]]:
    items, number = _Items(decompressed(raw)), 0
    while True:
        try:
            found = items.next()
        except Exception as error:  # see `decompressed`
            why = "too much within another" if isinstance(error, RecursionError) else damage_of(error)
            problems.count("damaged file", f"{name}: behind record {number}: {why}")
            return
        if found is _END:
            return
        number += 1
        yield number, items.offset, found if isinstance(found, dict) else "is not a JSON object"


class _Items:
    """The values of a JSON list or object, of which a few are in memory at a time."""

    def __init__(self, content: BinaryIO) -> None:
        self._content, self._decode = content, codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parser, self._text, self._place, self._begin = json.JSONDecoder(), "", 0, 0
        self._opening, self._ended = "", False

    @property
    def offset(self) -> int:
        """Return how many characters were read."""
        return self._begin + self._place

    def next(self) -> Any:
        """Return the next value, `_END` behind the last one. Raises nearly anything where the file is damaged."""
        if not self._opening:
            self._read()
            if not self._text.strip():
                return _END
            self._opening = self._text.lstrip()[0]
            if self._opening not in _CLOSING:
                raise ValueError("is neither a JSON list nor an object")
            self._place = self._text.index(self._opening) + 1
        while True:
            between = _BETWEEN.match(self._text, self._place)
            assert between is not None  # it matches nothing, too
            self._place = between.end()
            if self._text[self._place : self._place + 1] == _CLOSING[self._opening]:
                self._place += 1
                self._check_end()
                return _END
            try:
                return self._value()
            except ValueError:
                if self._ended or len(self._text) - self._place > LONGEST:
                    raise
                self._read()

    def _check_end(self) -> None:
        """Read the rest of the file. Raises: ValueError where it is more than blanks."""
        while not self._text[self._place :].strip():
            if self._ended:
                return
            self._place = len(self._text)
            self._read()
        raise ValueError("has more behind its end")

    def _value(self) -> Any:
        if self._opening == "[":
            value, self._place = self._parser.raw_decode(self._text, self._place)
            return value
        key = _KEY.match(self._text, self._place)
        if key is None:
            raise ValueError("has no key where one should be")
        value, self._place = self._parser.raw_decode(self._text, key.end())
        return {"question_id": json.loads(key[1]), **value} if isinstance(value, dict) else value

    def _read(self) -> None:
        block = self._content.read(_BLOCK)
        self._ended, self._begin = not block, self._begin + self._place
        self._text, self._place = self._text[self._place :] + self._decode(block, not block), 0
