"""Sum NLL by direction over the newest directions records."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.runs.words import number
from trainer.telemetry.metrics import parse_record

#: At most so many of the newest records are summed, and no more than give ENOUGH examples a direction.
KEPT, ENOUGH = 20, 50
#: Directions of fewer examples are not called the worst, if there are others: theirs is chance.
LEAST_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Direction:
    """NLL of a direction, in nats a target token, over `tokens` of `examples`."""

    source: str
    target: str
    nll: float
    tokens: float
    examples: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Directions:
    """Sums over the steps from `after` (not included) to `until`. found: directions that had target tokens."""

    after: int
    until: int
    found: tuple[Direction, ...]

    @property
    def languages(self) -> list[str]:
        """Languages of any direction, by name."""
        return sorted({name for one in self.found for name in (one.source, one.target)})

    def worst(self, count: int) -> list[Direction]:
        """Return the directions of the highest NLL, the worst first; NaN is the highest."""
        enough = [one for one in self.found if one.examples >= LEAST_EXAMPLES] or list(self.found)
        return sorted(enough, key=lambda one: -one.nll if one.nll == one.nll else -math.inf)[:count]


def sum_directions(lines: Sequence[bytes]) -> Directions:
    """Sum the newest of the records in `lines`, one or more."""
    sums: dict[str, list[float]] = {}
    after, until, used = 0, 0, 0
    for line in reversed(lines):
        record = parse_record(line)
        if record is None:
            continue
        after = record["step"]
        if used == KEPT or (sums and sum(of[2] for of in sums.values()) >= ENOUGH * len(sums)):
            break
        after, until, used = 0, max(until, record["step"]), used + 1
        for index, key in enumerate(("nats", "tokens", "examples")):
            values = record.get(key)
            for name, value in values.items() if isinstance(values, dict) else ():
                sums.setdefault(name, [0.0, 0.0, 0.0])[index] += number(value) or 0.0
    found = []
    for name, (nats, tokens, examples) in sums.items():
        source, arrow, target = name.partition(">")
        if arrow and tokens > 0:
            found.append(Direction(source=source, target=target, nll=nats / tokens, tokens=tokens, examples=examples))
    return Directions(after=after, until=until, found=tuple(found))
