"""PromQL of the panels. Names, units and titles of metrics are those that trainer/telemetry/prometheus declares."""

import re

from trainer.telemetry.prometheus.declared import PREFIX, Metric, unit_of
from trainer.telemetry.prometheus.metric_table import METRICS

#: Matchers of what is chosen at the top of a dashboard.
ONE_RUN, SOME_RUNS, SOME_NODES = 'run="$run"', 'run=~"$run"', 'run="$run",node=~"$node"'
_GRAFANA_UNITS = {"seconds": "s", "timestamp": "s", "bytes": "bytes", "ratio": "percentunit", "FLOP/s": "flops"}


def series(name: str, where: str = ONE_RUN, **labels: str) -> str:
    """Return the selector of a metric, by its name without the prefix, or of a recorded series, whose name has a colon.

    Raises `KeyError` for a metric that is not declared.
    """
    matchers = ",".join([where, *(f'{label}="{value}"' for label, value in labels.items())])
    suffix = "_bucket" if name.endswith("_bucket") else ""
    full_name = name if ":" in name else declared(name.removesuffix(suffix)).full_name + suffix
    return f"{full_name}{{{matchers}}}"


def highest(name: str, by: str = "", where: str = ONE_RUN, **labels: str) -> str:
    """Return the maximum of a metric's series, of each value of the labels `by`: series of one run's starts are one."""
    return f"max{_grouped(by)}({series(name, where, **labels)})"


def total(name: str, by: str) -> str:
    """Return the sum of a metric's series of each value of the labels `by`."""
    return f"sum{_grouped(by)}({series(name)})"


def per_second(name: str, where: str = ONE_RUN) -> str:
    """Return the rate of a counter over the last ten minutes."""
    return f"rate({series(name, where)}[10m])"


def quantile(share: float, name: str) -> str:
    """Return, for each node, what that share of a histogram's values of the last ten minutes does not exceed."""
    return f"histogram_quantile({share}, sum by (node, le) ({per_second(f'{name}_bucket', SOME_NODES)}))"


def declared(name: str) -> Metric:
    """Return a metric by its name without the prefix."""
    return METRICS[PREFIX + name]


def title(name: str) -> str:
    """Return a metric's title."""
    return declared(name).shown_title


def unit(expr: str) -> str:
    """Return Grafana's unit of the first metric of an expression, "short" for a number of things."""
    found = re.search(rf"({PREFIX}\w+)(:\w+)?", expr)
    if found is None:
        return "short"
    if (found[2] or "").startswith(":ratio"):
        return "percentunit"
    return _GRAFANA_UNITS.get(unit_of(found[1]), "short")


def _grouped(by: str) -> str:
    return f" by ({by}) " if by else ""
