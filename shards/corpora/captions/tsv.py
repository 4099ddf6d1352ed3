"""Read tables of tab-separated values as Python's csv writer makes them: a quoted field may hold tabs and lines."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from shards.corpora.packed import packed_lines
from shards.errors import InputError
from shards.problems import Problems
from shards.text.lines import LONGEST, decode

#: Characters that a field may have. A quote that is never closed takes what follows it, up to so much.
_LONGEST_FIELD = 1 << 20


class _Lines:
    """Lines for a csv reader, with those of the row that is being read kept to be read again."""

    def __init__(self, lines: Iterator[tuple[int, int, bytes]]) -> None:
        self._lines = lines
        self._again: list[tuple[int, int, bytes]] = []
        self.row: list[tuple[int, int, bytes]] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        found = self._again.pop() if self._again else next(self._lines)
        self.row.append(found)
        if len(found[2]) > LONGEST:
            raise ValueError(f"is longer than {LONGEST >> 20} MiB")
        return decode(found[2])

    def begin(self) -> None:
        """Forget the row before."""
        self.row = []

    def give_back(self) -> None:
        """Read all lines of the row but its first again: a quote too many may have taken them."""
        self._again += reversed(self.row[1:])


def read_rows(
    root: Path, name: str, columns: Sequence[str], problems: Problems
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield (number of its first line from 1, offset in the text, values of `columns`) of every row below the header.

    Compressed or not.

    Counted: "broken row" (not of as many fields as the header, not UTF-8, quotes that do not match), by its first line:
    the next ones are read as rows of their own; "empty file"; "damaged file", as `packed_lines`.

    Raises: InputError where the header lacks one of `columns`.
    """
    csv.field_size_limit(_LONGEST_FIELD)  # of the process; nothing else of ours reads with csv
    places: list[int] = []
    header: list[str] | None = None
    damaged = problems.counts.get("damaged file", 0)
    with open(root / name, "rb") as raw:
        lines = _Lines(packed_lines(raw, name, problems))
        rows = csv.reader(lines, delimiter="\t", strict=True)
        while True:
            lines.begin()
            try:
                row = next(rows, None)
            except (csv.Error, ValueError) as error:
                row, why = [], str(error)
            else:
                if row is None:
                    break
                if not row:  # an empty line
                    continue
                if header is None:
                    header = row
                    places = _places(name, header, columns)
                    continue
                why = f"has {len(row)} fields, and the header {len(header)}"
            first, offset, _ = lines.row[0]
            if header is None:
                raise InputError(f"{name}: its header cannot be read (line {first} {why}): get the file again")
            if len(row) == len(header):
                yield first, offset, tuple(row[place] for place in places)
            else:
                problems.count("broken row", f"{name}:{first}: {why}")
                lines.give_back()
    if header is None and problems.counts.get("damaged file", 0) == damaged:
        problems.count("empty file", name)


def _places(name: str, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    if missing := [column for column in columns if column not in header]:
        found = ", ".join(header)
        raise InputError(
            f"{name}: the header lacks {', '.join(missing)} (it has {found[:200]}{'...' if len(found) > 200 else ''}): "
            "take the file as it was published, or leave it out of --data"
        )
    return [header.index(column) for column in columns]
