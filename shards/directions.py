"""Parse language directions: `all`, `mms`, `mxls`, or patterns like `en-ru,*-ur`."""

from collections.abc import Sequence
from typing import Literal

from shards.errors import InputError
from shards.languages import find_language, languages_in_corpus

#: (source, target) as numbers in the corpus' languages.
Direction = tuple[int, int]
#: Monolingual directions (source = target), and cross-lingual ones.
DirectionKind = Literal["mms", "mxls"]


def direction_kind(source: object, target: object) -> DirectionKind:
    """Return the kind of a direction: "mms" (monolingual) where both sides are one language, else "mxls"."""
    return "mms" if source == target else "mxls"


def by_kind(directions: Sequence[Direction]) -> dict[str, list[Direction]]:
    """Return the directions of each kind that has any, monolingual ones first, in order."""
    found: dict[str, list[Direction]] = {}
    for direction in sorted(directions, key=lambda direction: direction_kind(*direction)):
        found.setdefault(direction_kind(*direction), []).append(direction)
    return found


def parse_directions(text: str, languages: Sequence[str], subset: Sequence[str] | None = None) -> list[Direction]:
    """Return the directions named by `text`, in order of (target, source), without repeats.

    Languages are names or codes, `*` is any; `source-target` or `source>target`, codes with a hyphen included
    (`zh-TW-en`). `subset` limits what `*` and the words `all`, `mms`, `mxls` cover.
    """
    allowed = [languages.index(name) for name in languages_in_corpus(subset or languages, languages)]
    found: set[Direction] = set()
    for pattern in (part.strip() for part in text.split(",")):
        if pattern in ("all", "mms", "mxls"):
            found |= {(s, t) for s in allowed for t in allowed if pattern in ("all", direction_kind(s, t))}
            continue
        source, target = _sides(pattern)
        sides = [
            allowed if side.strip() == "*" else [languages.index(languages_in_corpus([side], languages)[0])]
            for side in (source, target)
        ]
        found |= {(s, t) for s in sides[0] for t in sides[1]}
    return sorted(found, key=lambda direction: (direction[1], direction[0]))


def _sides(pattern: str) -> tuple[str, str]:
    """Split a pattern into source and target: at ">", else at the hyphen that has a language or * on both sides."""
    if ">" in pattern:
        source, _, target = pattern.partition(">")
        return source, target
    pieces = pattern.split("-")
    splits = [("-".join(pieces[:cut]), "-".join(pieces[cut:])) for cut in range(1, len(pieces))]
    if not splits or find_language(pattern):  # zh-TW is one language
        raise InputError(f"directions: {pattern!r} is none of all, mms, mxls, or a pair like en-ru, *-ur, zh-TW>en")
    sound = [sides for sides in splits if all(side.strip() == "*" or find_language(side) for side in sides)]
    if len(sound) > 1:
        pairs = " or ".join(">".join(sides) for sides in sound)
        raise InputError(f"directions: {pattern!r} may be read in two ways: write {pairs}")
    return sound[0] if sound else splits[0]
