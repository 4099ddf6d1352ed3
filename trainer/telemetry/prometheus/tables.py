"""A gauge whose series are replaced at once.

prometheus_client has none: between a Gauge's `clear` and its last `set` a scrape would see half of them.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Table(Collector):
    """One gauge with the series that the last `replace` named."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._words = name, documentation, tuple(labels)
        self._rows: tuple[tuple[tuple[str, ...], float], ...] = ()
        registry.register(self)

    def replace(self, rows: Iterable[tuple[tuple[str, ...], float]]) -> None:
        """Replace all series. rows: (label values, value)."""
        self._rows = tuple(rows)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the family without samples, by which the registry refuses a name twice."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the family with its samples, nothing where it has none."""
        family = self._family()
        for labels, value in self._rows:
            family.add_metric(labels, value)
        return [family] if family.samples else []

    def _family(self) -> GaugeMetricFamily:
        name, documentation, labels = self._words
        return GaugeMetricFamily(name, documentation, labels=labels)
