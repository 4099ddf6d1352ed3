"""Loss spikes: intervals whose loss stands out from those before, and the directions that made it."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

#: Intervals that the loss is compared with, and how many there must be before anything is called a spike.
_WINDOW, _ENOUGH = 32, 8
#: A median of deviations times this is a standard deviation where they are normally distributed.
_NORMAL = 1.4826
#: A loss that hardly moves makes any step of it many deviations; less than this share of it is no spike.
_LEAST = 0.05
#: How fast a direction's usual NLL follows it, and how many directions are named.
_PACE, _NAMED = 0.1, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Spike:
    """loss, usual: of the interval, and the median of those before.  directions: the worst, by the nats that each put
    on top of what is usual for it: (direction, its NLL a token, its usual one)."""

    loss: float
    usual: float
    directions: tuple[tuple[str, float, float], ...]


class SpikeDetector:
    """Looks at every logged interval; rank 0 only. It forgets when a run starts again: its memory is no state.

    deviations: how many standard deviations above the median of the last intervals a loss must be.
    """

    def __init__(self, deviations: float) -> None:
        self._deviations = deviations
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._usual: dict[str, float] = {}

    def look(self, loss: float, nats: Mapping[str, float], tokens: Mapping[str, float]) -> Spike | None:
        """Whether an interval is a spike. nats, tokens: direction -> sums over the interval."""
        spike = None
        if len(self._losses) >= _ENOUGH:
            usual = median(self._losses)
            deviation = _NORMAL * median(abs(before - usual) for before in self._losses)
            if not loss <= usual + max(self._deviations * deviation, _LEAST * abs(usual)):  # NaN is a spike, too
                spike = Spike(loss=loss, usual=usual, directions=self._worst(nats, tokens))
        if spike is None:
            # What is unusual must not become usual at once; a new level does when it stays.
            self._losses.append(loss)
            self._follow(nats, tokens)
        else:
            self._losses.popleft()
        return spike

    def _worst(self, nats: Mapping[str, float], tokens: Mapping[str, float]) -> tuple[tuple[str, float, float], ...]:
        typical = median(self._usual.values()) if self._usual else 0.0
        found = []
        for direction, count in tokens.items():
            if count:
                nll, usual = nats[direction] / count, self._usual.get(direction, typical)
                found.append((count * (nll - usual), direction, nll, usual))
        found.sort(reverse=True)
        return tuple((direction, nll, usual) for _, direction, nll, usual in found[:_NAMED])

    def _follow(self, nats: Mapping[str, float], tokens: Mapping[str, float]) -> None:
        for direction, count in tokens.items():
            if count:
                nll = nats[direction] / count
                before = self._usual.setdefault(direction, nll)
                self._usual[direction] = before + _PACE * (nll - before)
