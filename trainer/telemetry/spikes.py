"""Loss spikes: intervals whose loss stands out from those before, and the directions that made it."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from trainer.events import Event, Logged, LossSpiked
from trainer.telemetry.recent import by_direction

#: Intervals that the loss is compared with, and how many there must be before anything is called a spike.
_WINDOW, _ENOUGH = 32, 8
#: A median of deviations times this is a standard deviation where they are normally distributed.
_NORMAL = 1.4826
#: A loss that hardly moves makes any step of it many deviations; less than this share of it is no spike.
_LEAST = 0.05
#: How fast a direction's usual NLL follows it, and how many directions are named.
_PACE, _NAMED = 0.1, 5


class SpikeDetector:
    """Compare every logged interval with those before. It begins anew when a run starts again.

    deviations: how many standard deviations above the median of the last intervals a loss must be.
    """

    def __init__(self, deviations: float) -> None:
        self._deviations = deviations
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._usual: dict[str, float] = {}

    def add(self, step: int, loss: float, nats: Mapping[str, float], tokens: Mapping[str, float]) -> LossSpiked | None:
        """Return the spike that an interval is, if it is one. nats, tokens: direction -> sums over the interval."""
        spike = None
        if len(self._losses) >= _ENOUGH:
            usual = median(self._losses)
            deviation = _NORMAL * median(abs(before - usual) for before in self._losses)
            if not loss <= usual + max(self._deviations * deviation, _LEAST * abs(usual)):  # NaN is a spike, too
                spike = LossSpiked(step=step, loss=loss, usual=usual, directions=self._worst(nats, tokens))
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


class SpikeObserver:
    """Emit a `LossSpiked` after every `Logged` whose loss stands out.

    Where a term enters the loss or leaves it, as a warm-up ends, another loss begins, and the comparison anew.
    """

    def __init__(self, languages: Sequence[str], deviations: float, emit: Callable[[Event], None]) -> None:
        self._languages, self._emit = languages, emit
        self._deviations, self._idle = deviations, frozenset[str]()
        self._detector = SpikeDetector(deviations)

    def notify(self, event: Event) -> None:
        if isinstance(event, Logged):
            interval = event.interval
            if event.idle != self._idle:
                self._idle, self._detector = event.idle, SpikeDetector(self._deviations)
            nats, tokens = (dict(by_direction(self._languages, x)) for x in (interval.nats_TS, interval.tokens_TS))
            if (spike := self._detector.add(event.step, interval.total_loss, nats, tokens)) is not None:
                self._emit(spike)
