"""Read the files that annotators saved from a page, half-filled ones too."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.annotation.key import CRITERIA, SCALE, Key
from shards.errors import InputError
from shards.files.read import parse_json, read_regular, without_repeats

#: A page of a thousand examples and ten systems is rated in less.
_MOST_BYTES = 64 << 20
_AGAIN = "save it again from the page"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratings:
    """Ratings of one annotator. values: (item, letter, criterion) -> 1 (worst) to 5 (best); what is missing is not in
    it."""

    annotator: str
    path: Path
    values: Mapping[tuple[str, str, str], int]


def read_ratings(paths: Sequence[Path], key: Key) -> list[Ratings]:
    """Read the files of all annotators of the page of `key`.

    `InputError`, one line, for a file that is none, of another page, with an unknown item or a value that is none, for
    two files of one annotator, and where none holds any rating.
    """
    found = [_read(path, key) for path in paths]
    by_name: dict[str, Ratings] = {}
    for ratings in found:
        name = _plain(ratings.annotator)
        if name in by_name:
            raise InputError(
                f"{by_name[name].path} and {ratings.path} are both of annotator {ratings.annotator!r}: leave out the "
                'older one, or, if they are of two people, change "annotator" in one'
            )
        by_name[name] = ratings
    if not any(ratings.values for ratings in found):
        raise InputError(f"{', '.join(map(str, paths))}: nothing is rated yet")
    return found


def _plain(name: str) -> str:
    """Return a person's name without what two spellings of it may differ in: case, blanks, forms, invisible signs."""
    shown = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(shown.casefold().split())


def _read(path: Path, key: Key) -> Ratings:
    try:
        data = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not data.strip():
        raise InputError(f"{path} is empty: {_AGAIN}")
    try:
        content = parse_json(data, object_pairs_hook=without_repeats)
    except ValueError as error:
        raise InputError(f"{path} is no file of ratings ({' '.join(str(error).split())}): {_AGAIN}") from error
    if not isinstance(content, dict) or content.get("format") != "d2tv ratings":
        raise InputError(f"{path} is no file of ratings: name what annotators saved from the page")
    if content.get("page") != key.page:
        raise InputError(f"{path} is of page {content.get('page')!r}, the key is of {key.page!r}: name that page's key")
    annotator = content.get("annotator")
    if not isinstance(annotator, str) or not annotator.strip():
        raise InputError(f'{path} does not say whose it is: write a name behind "annotator"')
    return Ratings(annotator=annotator.strip(), path=path, values=_values(path, content.get("ratings"), key))


def _values(path: Path, ratings: Any, key: Key) -> dict[tuple[str, str, str], int]:
    known = set(key.summaries)
    values: dict[tuple[str, str, str], int] = {}
    for item, letters in _entries(path, ratings, "the ratings"):
        if item not in key.items:
            raise InputError(f"{path}: the page has no item {item!r}: {_AGAIN}")
        for letter, criteria in _entries(path, letters, f"item {item}"):
            where = f"item {item}, summary {letter}"
            if (item, letter) not in known:
                raise InputError(f"{path}: the page has no {where}: {_AGAIN}")
            for criterion, value in _entries(path, criteria, where):
                if criterion not in CRITERIA:
                    raise InputError(f"{path}: {where}: no such criterion as {criterion!r}: {', '.join(CRITERIA)}")
                if type(value) is not int or value not in SCALE:
                    raise InputError(
                        f"{path}: {where}: {criterion} is {repr(value)[:40]}: a rating is {SCALE[0]} to {SCALE[-1]}"
                    )
                values[item, letter, criterion] = value
    return values


def _entries(path: Path, value: Any, what: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {what} should be an object of JSON: {_AGAIN}")
    return list(value.items())
