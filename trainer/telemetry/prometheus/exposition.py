"""A registry as the text that Prometheus reads: what prometheus_client writes, byte for byte, and sooner.

The library validates and escapes the names and labels of every sample at every scrape. Ours stay the same for weeks, so
what stands before a value is made once.
"""

import math

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """The text of one registry, for the threads of a server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._before: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}

    def __call__(self) -> bytes:
        lines = []
        for family in self._registry.collect():
            name, kind = family.name, family.type
            if kind == "counter":
                name += "_total"
            elif kind == "info":
                name, kind = f"{name}_info", "gauge"
            documentation = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
            lines.append(f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n")
            lines += [self._line(sample) for sample in family.samples]
        return "".join(lines).encode()

    def _line(self, sample: Sample) -> str:
        key = (sample.name, tuple(sample.labels.items()))
        before = self._before.get(key)
        if before is None:
            before = self._before[key] = _before_value(sample)
        value = sample.value
        # Small whole and broken numbers are written as Python writes them; the library knows the rest.
        simple = isinstance(value, float) and 1e-3 < abs(value) < 1e6 and not math.isnan(value)
        if simple:
            return f"{before}{value!r}\n"
        return f"{before}{floatToGoString(value)}\n"  # type: ignore[no-untyped-call]


def _before_value(sample: Sample) -> str:
    if not sample.labels:
        return f"{sample.name} "
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}} "


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
