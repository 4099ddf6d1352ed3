"""Which language directions a person means: `all`, `mms`, `mxls`, or patterns like `en-ru,*-ur`."""

from collections.abc import Sequence

from shards.errors import InputError
from shards.languages import languages_in_corpus

#: (source, target) as numbers in the corpus' languages.
Direction = tuple[int, int]


def parse_directions(text: str, languages: Sequence[str], subset: Sequence[str] | None = None) -> list[Direction]:
    """The directions named by `text`, in order of (target, source), without repeats.

    Languages are names or codes, `*` is any; `source-target`, or `source>target` where a code has a hyphen
    (`zh-Hant>en`). `subset` limits what `*` and the words `all`, `mms`, `mxls` cover.
    """
    allowed = [languages.index(name) for name in languages_in_corpus(subset or languages, languages)]
    found: set[Direction] = set()
    for pattern in (part.strip() for part in text.split(",")):
        if pattern in ("all", "mms", "mxls"):
            found |= {(s, t) for s in allowed for t in allowed if pattern == "all" or (s == t) == (pattern == "mms")}
            continue
        source, mark, target = pattern.partition(">") if ">" in pattern else pattern.partition("-")
        if not mark:
            raise InputError(
                f"directions: {pattern!r} is none of all, mms, mxls, or a pair like en-ru, *-ur, zh-Hant>en"
            )
        sides = [
            allowed if side.strip() == "*" else [languages.index(languages_in_corpus([side], languages)[0])]
            for side in (source, target)
        ]
        found |= {(s, t) for s in sides[0] for t in sides[1]}
    return sorted(found, key=lambda direction: (direction[1], direction[0]))
