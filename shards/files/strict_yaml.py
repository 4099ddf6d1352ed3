"""Read and write YAML by the core schema of its version 1.2, strictly. The only place that calls PyYAML.

`true` and `false` are the only booleans, `010` is ten, `1:30`, `no` and dates are text, `1e-4` is a number. Refused are
a key that comes twice, anchors, aliases, merge keys, tags but the core schema's own, and what is too large or too deep
for settings. PyYAML by itself reads version 1.1 and takes the last of two equal keys.
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
#: The core schema's own tags, which a program may write, with the types of their values.
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, type | tuple[type, ...]] = {
    _TAG + "str": str,
    _TAG + "int": int,
    _TAG + "float": (int, float),
    _TAG + "bool": bool,
    _TAG + "null": type(None),
}


def read_yaml(text: str, where: str) -> Any:
    """Return the one document of `text` as mappings, lists, text, numbers, booleans and None.

    where: begins the message of the `InputError`, one line with the line of the text, for anything else.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"{where} has {len(text):,} characters, at most {MOST_CHARACTERS:,} are read: shorten it")
    try:
        return _Loader(text, where).document()
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


class _Loader(yaml.SafeLoader):
    """Composes PyYAML's nodes, refusing what is not read here, and makes the values itself."""

    def __init__(self, text: str, where: str) -> None:
        super().__init__(text)
        self._where, self._level = where, 0

    def document(self) -> Any:
        """Return the value of the only document, None where there is none."""
        node = self.get_node() if self.check_node() else None
        if self.check_node():
            self._refuse(self._next(), "begins a second document: keep one")
        return None if node is None else self._value(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self._next()
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, f"stands for another value by *{event.anchor}: write it out, or quote the word")
        if event.anchor is not None:
            self._refuse(event, f"names a value by &{event.anchor}, which is not read: remove it, or quote the word")
        scalar = isinstance(event, yaml.ScalarEvent)
        if event.tag is not None and event.tag not in (_SCALAR_TAGS if scalar else (_TAG + "map", _TAG + "seq")):
            self._refuse(event, f"has the tag {event.tag}, which is not read: remove it, or quote the word")
        if not scalar and self._level >= MOST_LEVELS:
            self._refuse(event, f"goes deeper than {MOST_LEVELS} levels: flatten it")
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def _next(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        return ""  # a node's tag is the one that was written: words are resolved by `read_scalar`

    def _value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child) for child in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        assert isinstance(node, yaml.ScalarNode)
        if node.tag == _TAG + "str" or (not node.tag and node.style is not None):
            return node.value
        value = read_scalar(node.value)
        if node.tag and not isinstance(value, _SCALAR_TAGS[node.tag]):
            self._refuse(node, f"has the tag {node.tag} on another value: remove it")
        return value

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, "has a mapping or list for a key: a key is text")
            if key_node.value == "<<" and key_node.style is None:
                self._refuse(key_node, "merges another mapping (<<), which is not read: write its keys out")
            self._value(key_node)  # for its tag
            # A key is what it was written as: a section of the number 3 is named "3", the language `no` is named "no".
            key, line = key_node.value, _line(key_node)
            if key in values:
                raise InputError(
                    f"{self._where}: key {key!r} stands in line {lines[key]} and again in line {line}: "
                    "keep one of the two, or put what both hold under one"
                )
            lines[key], values[key] = line, self._value(value_node)
        return values

    def _refuse(self, at: yaml.Event | yaml.Node, what: str) -> NoReturn:
        raise InputError(f"{self._where}: line {_line(at)} {what}")


def _line(at: yaml.Event | yaml.Node) -> int:
    return at.start_mark.line + 1 if at.start_mark else 1


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # PyYAML writes U+0085 and its like as they are, and reads them as line breaks.
        style = '"' if not text.isprintable() else None if isinstance(read_scalar(text), str) else "'"
        return self.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
