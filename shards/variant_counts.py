"""Count the variants (shards/schema.py) that were made for a corpus by direction, and why others were not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from shards.files.read import parse_json

#: What is counted when a variant was made; anything else is a reason why it was not.
MADE = "made"


def describe(counts: Mapping[str, int]) -> str:
    """Return the reasons among some counts in one line, the most frequent first; empty where there is none."""
    reasons = sorted((item for item in counts.items() if item[0] != MADE), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {number:,}" for reason, number in reasons)


@dataclass(slots=True)
class VariantCounts:
    """source language -> target language -> `MADE`, or the reason why there is none -> count."""

    counts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def count(self, source: str, target: str, what: str, number: int = 1) -> None:
        of_direction = self.counts.setdefault(source, {}).setdefault(target, {})
        of_direction[what] = of_direction.get(what, 0) + number

    def add(self, other: "VariantCounts") -> None:
        for source, target, counts in other.directions():
            for what, number in counts.items():
                self.count(source, target, what, number)

    def directions(self) -> list[tuple[str, str, dict[str, int]]]:
        """Return source, target and counts of every direction, by target and source."""
        found = [(source, target, counts) for source, of in self.counts.items() for target, counts in of.items()]
        return sorted(found, key=lambda each: (each[1], each[0]))

    def total(self) -> dict[str, int]:
        """Return the counts of all directions together."""
        total: dict[str, int] = {}
        for _, _, counts in self.directions():
            for what, number in counts.items():
                total[what] = total.get(what, 0) + number
        return total

    def to_json(self) -> str:
        return json.dumps(self.counts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "VariantCounts":
        """Read back what `to_json` gave. Raise `ValueError` for anything else."""
        found = cls()
        values = parse_json(text)
        try:
            for source, of in values.items():
                for target, counts in of.items():
                    for what, number in counts.items():
                        if type(number) is not int or not 0 < number < 1 << 53:
                            raise ValueError(f"{number!r} is no count")
                        found.count(source, target, what, number)
        except AttributeError as error:  # no object of objects
            raise ValueError("no counts of variants") from error
        return found
