"""What was wrong with the input of a corpus: counted by kind, the first few named."""

import json
from dataclasses import dataclass, field

#: How many of each kind are kept by name.
NAMED = 5


@dataclass(slots=True)
class Problems:
    """kind -> count, and the first few places where it was met."""

    counts: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)

    def count(self, kind: str, where: str) -> None:
        """One more `kind` ("empty summary"), met at `where` (a url, a file and line)."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        names = self.named.setdefault(kind, [])
        if len(names) < NAMED:
            names.append(where)

    def add(self, other: "Problems") -> None:
        """Everything that `other` holds, after what is here."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            names = self.named.setdefault(kind, [])
            names += other.named.get(kind, [])[: NAMED - len(names)]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def to_json(self) -> str:
        return json.dumps({"counts": self.counts, "named": self.named}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Problems":
        return cls(**json.loads(text))
