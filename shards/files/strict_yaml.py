"""YAML as its version 1.2 has it (the core schema), read strictly, and written so that every reader reads the same.

`true` and `false` are the only booleans, `010` is ten, `1:30`, `no` and dates are text, `1e-4` is a number. Refused are
a key that comes twice, anchors, aliases, merge keys, tags but the core schema's own, and what is too large or too deep
for settings.
"""

import re
import sys
from typing import Any, NoReturn

import yaml

from shards.errors import InputError

#: Characters of a file: a recipe that weights all directions by name has 50,000.
MOST_CHARACTERS = 262_144
#: Mappings and lists inside each other.
MOST_LEVELS = 32
#: Characters of a number. What has more is left as text, which no number's key takes.
_LONGEST_NUMBER = 300

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
#: The core schema's own tags, which a program may write, with what their values are.
_SCALAR_TAGS: dict[str, type | tuple[type, ...]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": (int, float),
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:null": type(None),
}


def read_yaml(text: str, where: str) -> Any:
    """Return the one document of `text` as mappings, lists, text, numbers, booleans and None.

    where: begins the message of the `InputError`, one line with the line of the text, for anything else.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"{where} has {len(text):,} characters, at most {MOST_CHARACTERS:,} are read: shorten it")
    try:
        return _Reader(where).read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        # Without the snippet that PyYAML adds: a value may be a secret.
        raise InputError(f"{where} is not YAML: {error.problem or error.context}{place}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise InputError(
            f"{where} is not YAML: character U+{int(error.character):04X} is not allowed (line {line}): remove it"
        ) from None


def write_yaml(values: Any) -> str:
    """Return mappings, lists, text, numbers, booleans and None as YAML that `read_yaml` reads back to the same."""
    # Never folded: a line break that was put into a text is one more thing for a reader to undo.
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize))


def read_scalar(text: str) -> Any:
    """Return what the core schema makes of a word without quotes: None, a boolean, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Reader:
    """Builds values from the parser's events, without recursion, so that no text is too deep for it."""

    def __init__(self, where: str) -> None:
        self._where = where
        #: Every open mapping or list, outermost first; for a mapping with its key that waits for a value.
        self._open: list[_Mapping | list[Any]] = []
        self._result: Any = None

    def read(self, text: str) -> Any:
        documents = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        self._refuse(event, "begins a second document: keep one")
                case yaml.AliasEvent():
                    self._refuse(event, f"stands for another value by *{event.anchor}: write it out, or quote the word")
                case yaml.ScalarEvent():
                    self._add(event, self._scalar(event))
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._check(event, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
                    if len(self._open) >= MOST_LEVELS:
                        self._refuse(event, f"goes deeper than {MOST_LEVELS} levels: flatten it")
                    if self._open and isinstance(self._open[-1], _Mapping) and self._open[-1].wants_key:
                        self._refuse(event, "has a mapping or list for a key: a key is text")
                    inner: _Mapping | list[Any] = _Mapping() if isinstance(event, yaml.MappingStartEvent) else []
                    self._add(event, inner.values if isinstance(inner, _Mapping) else inner)
                    self._open.append(inner)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._open.pop()
        return self._result

    def _check(self, event: yaml.NodeEvent, *tags: str) -> None:
        if event.anchor is not None:
            self._refuse(event, f"names a value by &{event.anchor}, which is not read: remove it, or quote the word")
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in tags:
            self._refuse(event, f"has the tag {tag}, which is not read: remove it, or quote the word")

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        self._check(event, *_SCALAR_TAGS)
        if event.tag is None:
            return read_scalar(event.value) if event.style is None else event.value
        if event.tag == "tag:yaml.org,2002:str":
            return event.value
        value = read_scalar(event.value)
        if not isinstance(value, _SCALAR_TAGS[event.tag]):
            self._refuse(event, f"has the tag {event.tag} on another value: remove it")
        return value

    def _add(self, event: yaml.Event, value: Any) -> None:
        if not self._open:
            self._result = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        elif self._open[-1].wants_key:
            self._begin_key(event, self._open[-1], value)
        else:
            self._open[-1].finish(value)

    def _begin_key(self, event: yaml.Event, mapping: "_Mapping", key: Any) -> None:
        if key == "<<" and getattr(event, "style", None) is None:
            self._refuse(event, "merges another mapping (<<), which is not read: write its keys out")
        # A key is what it was written as: a section of the number 3 is named "3", the language `no` is named "no".
        name = key if isinstance(key, str) else event.value  # type: ignore[attr-defined]
        line = _line(event)
        if name in mapping.lines:
            raise InputError(
                f"{self._where}: key {name!r} stands in line {mapping.lines[name]} and again in line {line}: "
                "keep one of the two, or put what both hold under one"
            )
        mapping.begin(name, line)

    def _refuse(self, event: yaml.Event, what: str) -> NoReturn:
        raise InputError(f"{self._where}: line {_line(event)} {what}")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


class _Mapping:
    """A mapping that is being read: its keys with the lines that they stand in."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self._key: str | None = None

    @property
    def wants_key(self) -> bool:
        return self._key is None

    def begin(self, key: str, line: int) -> None:
        self._key, self.lines[key] = key, line

    def finish(self, value: Any) -> None:
        assert self._key is not None
        self.values[self._key], self._key = value, None


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML writes U+0085 and its like as they are, and reads them as line breaks.
        style = '"' if not text.isprintable() else None if isinstance(read_scalar(text), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
