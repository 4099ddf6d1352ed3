"""Labelled gauges whose series are replaced all at once: a scrape sees the old ones or the new ones."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Table(Collector):
    """One gauge with labels. Series that the last `replace` did not name are gone."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._rows: tuple[tuple[tuple[str, ...], float], ...] = ()
        registry.register(self)

    def replace(self, rows: Iterable[tuple[tuple[str, ...], float]]) -> None:
        """rows: (label values, value)."""
        self._rows = tuple(rows)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """For the registry, which refuses a name twice."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """For a scrape, in another thread."""
        family = self._family()
        for labels, value in self._rows:
            family.add_metric(labels, value)
        return [family] if family.samples else []

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
