"""Read what the tests of rules and dashboards compare: declared metrics, rules, selectors, queries."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from trainer.telemetry.prometheus.metric_table import METRICS

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "launcher" / "monitoring"
RULES = MONITORING / "rules"
#: What a target has, and what Prometheus gives every series that it scrapes.
TARGET_LABELS = frozenset({"job", "instance", "run", "node", "rank", "slurm_job"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """An expression of a dashboard, and its panel."""

    place: str
    expr: str


def served_series() -> dict[str, frozenset[str]]:
    """Return the names of all declared series, with the labels that they have besides their target's."""
    found: dict[str, frozenset[str]] = {}
    for name, metric in METRICS.items():
        labels = frozenset(metric.labels)
        if metric.kind == "histogram":
            found |= {f"{name}_sum": labels, f"{name}_count": labels, f"{name}_bucket": labels | {"le"}}
        else:
            found[name] = labels
    return found


def rule_groups(name: str) -> list[dict[str, Any]]:
    """Return the groups of a file of launcher/monitoring/rules."""
    groups: list[dict[str, Any]] = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
    return groups


def recorded() -> dict[str, str]:
    """Return name -> expression of every recording rule."""
    return {rule["record"]: rule["expr"] for group in rule_groups("recording.yml") for rule in group["rules"]}


def alerts() -> dict[str, dict[str, Any]]:
    """Return name -> rule of every alert."""
    return {rule["alert"]: rule for group in rule_groups("alerts.yml") for rule in group["rules"]}


def selectors(expr: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield (name, labels that it matches by) of every series that an expression reads. It must be PromQL."""
    found: list[tuple[str, frozenset[str]]] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name is not None, f"{expr}: a selector without a name"
            found.append((node.name, frozenset(matcher.name for matcher in node.matchers.matchers)))

    promql_parser.walk(promql_parser.parse(expr), visit)
    assert found, expr
    yield from found


def unknown(expr: str) -> list[str]:
    """Return what an expression reads that is neither declared nor recorded."""
    served, rules, problems = served_series(), recorded(), []
    for name, labels in selectors(expr):
        if name in ("ALERTS", "up"):
            continue
        if name in served:
            allowed = served[name] | TARGET_LABELS
        elif name in rules:
            allowed = frozenset(name.split(":")[0].split("_"))  # the level names what is left
        else:
            problems.append(f"{name} in {expr}")
            continue
        problems += [f"label {label} of {name} in {expr}" for label in labels - allowed]
    return problems


def dashboards() -> dict[str, dict[str, Any]]:
    """Return file name -> dashboard, of those that are committed."""
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(MONITORING.glob("dashboards/*"))}


def panel_queries(dashboard: dict[str, Any]) -> Iterator[Query]:
    """Yield the queries of its panels."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield Query(place=f"{dashboard['title']} / {panel['title']} / {target['refId']}", expr=target["expr"])
