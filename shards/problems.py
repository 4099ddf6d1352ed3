"""Count what was wrong with the input of a corpus by kind, the first few named."""

import json
from dataclasses import dataclass, field

from shards.errors import InputError
from shards.files.read import parse_json
from shards.printable import one_line

#: How many of each kind are kept by name, and how many of them are shown.
NAMED, SHOWN = 5, 2

#: Kinds that describe a corpus and call for no repair: they are counted and shown, and never end a build.
#: "missing features": an article without an image.  "mixed split": a story whose articles and pairs the official
#: files put into several splits; the most held-out one has it.  "edge across stories": a pair that is left out
#: because its articles' stories have a language in common, and a story holds one article a language.
#: "figure kept as PNG": an image whose file is neither PNG nor JPEG, in a corpus that keeps the pixels.  "repeated
#: file" and "repeated image": one whose content another has as well; it is read once.  "empty file": one without a
#: line.  "other file": one that no source reads, such as a README or a picture.  Of images with captions: "other
#: language", a caption in one that is none of ours; "image without caption", a file; "image kept as PNG"; and of WIT
#: "image not in images.tsv", "row without caption", and "further page", which shows an image in a language again. Of
#: examples to classify: "no agreed label", and "example without image", whose picture is counted once by itself.
INFORMATION = frozenset(
    {
        "missing features",
        "mixed split",
        "edge across stories",
        "figure kept as PNG",
        "repeated file",
        "repeated image",
        "empty file",
        "other file",
        "other language",
        "image without caption",
        "image kept as PNG",
        "image not in images.tsv",
        "row without caption",
        "further page",
        "no agreed label",
        "example without image",
    }
)
#: Characters of a place's name that are kept.
_LONGEST = 300


@dataclass(slots=True)
class Problems:
    """kind -> count, and the first few places where it was met.

    limit: `InputError` as soon as more than so many are counted, `INFORMATION` apart; None for no limit.
    """

    counts: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    limit: int | None = None

    def count(self, kind: str, where: str) -> None:
        """Count one more `kind` ("empty summary"), met at `where` (a url, a file and line).

        Raises: InputError when the limit is passed.
        """
        self.counts[kind] = self.counts.get(kind, 0) + 1
        names = self.named.setdefault(kind, [])
        if len(names) < NAMED:
            names.append(one_line(where if len(where) <= _LONGEST else where[: _LONGEST - 3] + "..."))
        if kind not in INFORMATION:
            self._check()

    def add(self, other: "Problems") -> None:
        """Count everything that `other` holds, after what is here.

        Raises: InputError when the limit is passed.
        """
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            names = self.named.setdefault(kind, [])
            names += other.named.get(kind, [])[: NAMED - len(names)]
        self._check()

    @property
    def total(self) -> int:
        """Return how many count against the limit: all but `INFORMATION`."""
        return sum(count for kind, count in self.counts.items() if kind not in INFORMATION)

    def lines(self) -> list[str]:
        """Return a line a kind for a person, the most frequent first: what, how often, where it was met first."""
        kinds = sorted(self.counts, key=lambda kind: (kind in INFORMATION, -self.counts[kind], kind))
        width = max(map(len, kinds), default=0)
        return [
            f"  {kind:<{width}} {self.counts[kind]:>9,}  {'(information) ' if kind in INFORMATION else ''}"
            f"{_first(self.named[kind], self.counts[kind])}"
            for kind in kinds
        ]

    def summary(self, *, information: bool = False) -> str:
        """Return one line of all kinds, the most frequent first, each with where it was met first."""
        kinds = self.counts.keys() if information else self.counts.keys() - INFORMATION
        return "; ".join(
            f"{kind} {self.counts[kind]:,} ({_first(self.named[kind], self.counts[kind])})"
            for kind in sorted(kinds, key=lambda kind: (kind in INFORMATION, -self.counts[kind], kind))
        )

    def to_json(self) -> str:
        return json.dumps({"counts": self.counts, "named": self.named}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Problems":
        """Read back what `to_json` gave. Raise `ValueError` for anything else."""
        values = parse_json(text)
        counts, named = (values.get(key) if isinstance(values, dict) else None for key in ("counts", "named"))
        if not isinstance(counts, dict) or not isinstance(named, dict) or set(counts) != set(named):
            raise ValueError("no counted problems")
        for kind, count in counts.items():
            names = named[kind]
            whole = type(count) is int and 0 <= count < 1 << 53
            if not whole or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"no counted problems of the kind {kind!r}")
        return cls(counts=counts, named=named)

    def _check(self) -> None:
        if self.limit is None or self.total <= self.limit:
            return
        raise InputError(
            f"{self.total:,} problems in the input, of which --max-problems allows {self.limit:,}: {self.summary()}. "
            "Mend the input, or raise --max-problems to go on without what is broken"
        )


def _first(names: list[str], count: int) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if count > SHOWN else "")
