"""Declare a metric once: its Prometheus collector, docs/metrics.md and the dashboards' units and titles follow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from trainer.telemetry.prometheus.tables import Table

PREFIX = "d2tv_"
#: A table is a gauge whose series are replaced at once, and that has none until its first value.
Kind = Literal["gauge", "counter", "histogram", "info", "table"]
#: Units by the last words of a name, as Prometheus' conventions have it; the first that fits.
_UNITS = {
    "flops_per_second": "FLOP/s",
    "per_second": "1/s",
    "timestamp_seconds": "timestamp",
    "seconds": "seconds",
    "bytes": "bytes",
    "ratio": "ratio",
    "nats": "nats",
}


def unit_of(name: str) -> str:
    """Return the unit in a metric's name, "" for a number of things."""
    name = name.removesuffix("_bucket").removesuffix("_total")
    return next((unit for words, unit in _UNITS.items() if name.endswith(f"_{words}")), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric as it is declared."""

    #: As it is served, without the prefix.
    name: str
    kind: Kind
    help: str
    #: A field of a record of metrics.jsonl, like train/loss, by which trackers name it too; else the object it is from.
    source: str
    labels: tuple[str, ...] = ()
    #: Upper bounds of a histogram's buckets.
    buckets: tuple[float, ...] = ()
    #: For dashboards; by default made of the name.
    title: str = ""

    @property
    def full_name(self) -> str:
        return PREFIX + self.name

    @property
    def unit(self) -> str:
        return unit_of(self.name)

    @property
    def shown_title(self) -> str:
        words = self.name.removesuffix("_total").removesuffix(f"_{self.unit}").replace("_", " ")
        return self.title or words.capitalize()


class Series:
    """The metrics of a registry by their names without the prefix. Unknown names raise `KeyError`."""

    def __init__(self, registry: CollectorRegistry, metrics: Sequence[Metric]) -> None:
        self._collectors: dict[str, Any] = {metric.name: _collector(metric, registry) for metric in metrics}
        # The library checks and copies labels at every look-up.
        self._labelled: dict[tuple[str, tuple[str, ...]], Any] = {}

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._of(name, labels).set(value)

    def set_now(self, name: str) -> None:
        """Set a gauge to the current time."""
        self._collectors[name].set_to_current_time()

    def set_by(self, name: str, function: Callable[[], float]) -> None:
        """Set a gauge at every scrape, by a function."""
        self._collectors[name].set_function(function)

    def add(self, name: str, value: float = 1, *labels: str) -> None:
        """Add to a counter."""
        self._of(name, labels).inc(value)

    def observe(self, name: str, value: float) -> None:
        """Add a value to a histogram."""
        self._collectors[name].observe(value)

    def replace(self, name: str, rows: Iterable[tuple[tuple[str, ...], float]]) -> None:
        """Replace all series of a table. rows: (label values, value)."""
        self._collectors[name].replace(rows)

    def inform(self, name: str, values: Mapping[str, str]) -> None:
        """Set the labels of an info."""
        self._collectors[name].info(dict(values))

    def _of(self, name: str, labels: tuple[str, ...]) -> Any:
        if not labels:
            return self._collectors[name]
        found = self._labelled.get((name, labels))
        if found is None:
            found = self._labelled[name, labels] = self._collectors[name].labels(*labels)
        return found


def _collector(metric: Metric, registry: CollectorRegistry) -> Any:
    name = metric.full_name
    match metric.kind:
        case "gauge":
            return Gauge(name, metric.help, metric.labels, registry=registry)
        case "counter":
            return Counter(name, metric.help, metric.labels, registry=registry)
        case "histogram":
            return Histogram(name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
        case "info":
            return Info(name.removesuffix("_info"), metric.help, registry=registry)
        case "table":
            return Table(name, metric.help, metric.labels, registry)
