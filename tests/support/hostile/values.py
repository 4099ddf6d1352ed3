"""Hostile variants of any file: of its bytes, of its JSON, of its text, and of what lies under its name instead."""

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What a value of JSON is replaced by.
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**64, 10**400, -(10**400), 1e300, -1e300, 0.5, math.nan, math.inf),
    *("", " ", "x", "x" * 300, "\x1b[31m", "[/]", "[red]x[/]", "</script><script>", "../x", "/", "a\nb", "\u202e", "~"),
    *("é\x00", "-1", "1e9", "auto", "\ud800", [], [1], [None], [[]], ["x", 1], {}, {"a": 1}, {"a": None}, {"": {}}),
)
#: Bytes that may be put anywhere.
_TOKENS = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[31m", b"\r\n", b"\xe2\x80\xae", b"\xed\xa0\x80", b"'", b'"', b"\\"),
    *(b"NaN", b"1e999", b"-", b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"null", b"&a ", b"*a", b"<<: ", b"!!python"),
    *(b"\n", b"---\n", b"#", b": ", b"\t", b"x" * 3000, b"{}", b"]", b"}", b","),
)


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """A file's bytes with none to three faults."""
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        place = draw.randrange(len(data) + 1)
        kind = draw.randrange(8)
        if kind <= 1 and data:
            place = min(place, len(data) - 1)
            data = data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]
        elif kind <= 3:
            data = data[:place] + draw.choice(_TOKENS) + data[place:]
        elif kind == 4:
            data = data[:place]
        elif kind == 5:
            until = min(len(data), place + draw.randrange(1, 200))
            data = data[:until] + data[place:until] + data[until:]
        elif kind == 6:
            data = data[:place] + data[min(len(data), place + draw.randrange(1, 50)) :]
        else:
            data = draw.choice((b"", b"\xef\xbb\xbf" + data, data.decode("latin-1").encode("utf-16"), data[::-1]))
    return data


def changed_lines(data: bytes, draw: random.Random) -> bytes:
    """A text's bytes with a line that comes twice, is gone, or stands elsewhere."""
    lines = data.splitlines(keepends=True) or [b""]
    line = lines.pop(draw.randrange(len(lines)))
    for _ in range(draw.choice((0, 1, 1, 2))):
        lines.insert(draw.randrange(len(lines) + 1), line)
    return b"".join(lines)


def changed_value(value: Any, draw: random.Random) -> Any:
    """One fault somewhere in a value of JSON: another value, a key gone, a key more."""
    if isinstance(value, dict | list) and value and draw.random() < 0.9:
        copy: Any = value.copy()
        key = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
        fault = draw.random()
        if isinstance(copy, dict) and fault < 0.08:
            del copy[key]
        elif isinstance(copy, dict) and fault < 0.16:
            copy[draw.choice((f"{key}x", "", "\x1b[31m", "a.b", "x" * 300))] = copy[key]
        elif isinstance(copy, list) and fault < 0.08:
            copy += copy
        else:
            copy[key] = changed_value(copy[key], draw)
        return copy
    return draw.choice(VALUES)


def changed_json(data: bytes, draw: random.Random) -> bytes:
    """A JSON file with a fault in its values, its lines, or its bytes, or only its keys in another order."""
    kind = draw.random()
    if kind < 0.1:
        return json.dumps(json.loads(data), sort_keys=True, ensure_ascii=False).encode()
    if kind < 0.7:
        return json.dumps(changed_value(json.loads(data), draw), indent=1).encode()
    return changed_lines(data, draw) if kind < 0.8 else changed_bytes(data, draw)


def changed_text(data: bytes, draw: random.Random) -> bytes:
    """A text with a fault in its lines or its bytes."""
    return changed_lines(data, draw) if draw.random() < 0.4 else changed_bytes(data, draw)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing/at all")


#: What may lie under the name of a file instead of it.
INSTEAD: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "directory": os.mkdir,
    "link to itself": _link_to_itself,
    "link to nothing": _link_to_nothing,
    "link to a directory": lambda path: path.symlink_to("."),
    "empty": Path.touch,
    "all bytes": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "deep": lambda path: path.write_bytes(b"[" * 5_000),
    "deep object": lambda path: path.write_bytes(b'{"a":' * 5_000),
    "huge number": lambda path: path.write_bytes(b"9" * 100_000),
    "null": lambda path: path.write_bytes(b"null"),
    "list": lambda path: path.write_bytes(b"[1, 2]"),
}


def put_instead(path: Path, draw: random.Random) -> str:
    """Put something else under a file's name; what it is."""
    kind = draw.choice(list(INSTEAD))
    path.unlink(missing_ok=True)
    INSTEAD[kind](path)
    return kind
