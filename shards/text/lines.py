"""Check text from outside for visible characters, and read JSONL files line by line."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import regex

from shards.files.read import RepeatedKeyError, without_repeats

#: Bytes that a document, or a line of a JSONL file, may have. Articles have some five thousand.
LONGEST = 16 << 20

#: Everything but spaces, controls, format characters (zero-width spaces and joiners, soft hyphens, direction marks),
#: halves of surrogate pairs, what Unicode says to ignore in display (variation selectors, Hangul fillers, tags),
#: noncharacters, and two signs that are drawn as nothing: the empty Braille pattern and the null note head.
_VISIBLE = regex.compile(
    r"[^\s\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}\u2800\U0001D159]"
)


def has_text(text: str) -> bool:
    """Return True if the text holds a character that a reader can see."""
    return _VISIBLE.search(text) is not None


def read_lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number from 1, offset in bytes, content) of every line, in memory that a long line does not fill.

    Of a line that is longer than `LONGEST` the first `LONGEST` + 1 bytes are yielded, which `parse_object` refuses.
    """
    number = offset = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        yield number, offset, line
        offset += len(line)
        while len(line) > LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST + 1)
            offset += len(line)


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object on a line of UTF-8, with or without a byte order mark.

    Raises: ValueError, which says what is wrong, as "is not JSON".
    """
    if len(line) > LONGEST:
        raise ValueError(f"is longer than {LONGEST >> 20} MiB")
    text = decode(line)
    try:
        fields = json.loads(text, object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg.removesuffix(' at')} at character {error.pos + 1})") from error
    except RepeatedKeyError as error:
        raise ValueError(f"is JSON in which {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a list of thousands of lists
        raise ValueError("is JSON with a number that is too long or too much within another") from error
    if not isinstance(fields, dict):
        raise ValueError("is not a JSON object")
    return fields


def parse_strings(line: bytes, keys: Iterable[str]) -> dict[str, Any]:
    """Return the JSON object on a line, which has a proper string under each of `keys`.

    Raises: ValueError, which says what is wrong, as "has no 'text'".
    """
    fields = parse_object(line)
    for key in keys:
        value = fields.get(key)
        if not isinstance(value, str):
            raise ValueError(f"has no {key!r}")
        try:
            check_encodable(value)
        except ValueError as error:
            raise ValueError(f"{key!r} {error}") from error
    return fields


def decode(data: bytes) -> str:
    """Decode UTF-8, without a byte order mark at its beginning.

    Raises: ValueError, which says what is wrong, as "is not UTF-8 text".
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError("is not UTF-8 text but UTF-16, as PowerShell writes it (save it as UTF-8)") from error
        raise ValueError(f"is not UTF-8 text ({error.reason} at byte {error.start})") from error


def check_encodable(text: str) -> None:
    """Raise ValueError if the text holds half a surrogate pair, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half a surrogate pair, which is no character") from error
