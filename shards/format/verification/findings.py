"""Collect the findings of `d2tv verify`: the first ones in full, the rest as counts by file."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

#: Problems that are kept in full.
SHOWN = 20
#: Files that the rest is counted by.
_FILES = 10


@dataclass(slots=True)
class Findings:
    """Problems in the order in which they were found; each begins with the file that it is of.

    Takes the same room for three and for three million: they are counted by file.
    """

    shown: list[str] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.files.total()

    def add(self, message: str) -> None:
        self.add_many(1, [message])

    def add_many(self, count: int, messages: Iterable[str]) -> None:
        """Add `count` problems of one file. Of `messages`, one each, only as many are made as are shown."""
        if not count:
            return
        made: Iterator[str] = iter(messages)
        first = next(made)
        self.files[re.split(r"[:,]", first, maxsplit=1)[0]] += count
        room = max(SHOWN - len(self.shown), 0)
        self.shown += [message for message, _ in zip(chain([first], made), range(room), strict=False)]

    def extend(self, other: "Findings") -> None:
        """Add everything that `other` holds."""
        self.shown += other.shown[: SHOWN - len(self.shown)]
        self.files.update(other.files)

    def lines(self) -> list[str]:
        """Return one line a problem, and one for those that are only counted."""
        rest = self.count - len(self.shown)
        if not rest:
            return self.shown
        files = self.files.most_common(_FILES)
        by_file = ", ".join(f"{count:,} of {name}" for name, count in files)
        more = f", and {len(self.files) - len(files):,} more files" if len(self.files) > len(files) else ""
        return [*self.shown, f"and {rest:,} more. In all: {by_file}{more}"]
