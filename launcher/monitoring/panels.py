"""Panels of the dashboards: a graph, a number, a histogram, each with the looks that all of them share.

A panel's description says what good looks like; its thresholds are those of launcher/monitoring/rules/alerts.yml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, stat, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from launcher.monitoring.queries import unit as unit_of

AnyPanel = Builder[dashboard.Panel]
#: The data source that is chosen at the top of a dashboard.
DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
#: A dashboard is this wide.
FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """From which values on something is yellow, and red. `low`: those below are, instead of those above."""

    yellow: float
    red: float
    low: bool = False

    def steps(self) -> list[dashboard.Threshold]:
        names = ("red", "yellow", "green") if self.low else ("green", "yellow", "red")
        values = (None, self.red, self.yellow) if self.low else (None, self.yellow, self.red)
        return [dashboard.Threshold(value=value, color=name) for value, name in zip(values, names, strict=True)]


def framed(panel: Any, title: str, description: str, *, width: int, height: int) -> Any:
    """Give a panel its frame."""
    return panel.title(title).description(description).datasource(DATASOURCE).height(height).span(width)


def graph(
    title: str,
    description: str,
    queries: Mapping[str, str],
    *,
    unit: str = "",
    limits: Limits | None = None,
    width: int = HALF,
    log: bool = False,
    points: bool = False,
) -> AnyPanel:
    """Draw lines over time. queries: legend -> expression.  unit: by default that of the first expression's metric."""
    table = build_common.VizLegendOptions().display_mode(common.LegendDisplayMode.TABLE).show_legend(True)
    sorted_values = build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel: timeseries.Panel = (
        framed(timeseries.Panel(), title, description, width=width, height=8)
        .unit(unit or unit_of(next(iter(queries.values()))))
        .targets(targets_of(queries))
        .line_width(1)
        .fill_opacity(0)
        .span_nulls(False)
        .show_points(common.VisibilityMode.ALWAYS if points else common.VisibilityMode.AUTO)
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(table.placement(common.LegendPlacement.BOTTOM).calcs(["lastNotNull", "min", "max"]))
        .tooltip(sorted_values.sort(common.SortOrder.DESCENDING))
    )
    if log:
        panel.scale_distribution(build_common.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10))
    if limits is not None:
        panel.thresholds(_thresholds(limits))
        panel.thresholds_style(build_common.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
    return panel


def number(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "",
    decimals: int | None = None,
    limits: Limits | None = None,
    width: int = SIXTH,
) -> AnyPanel:
    """Show the last value, large, with its course behind it."""
    panel: stat.Panel = (
        framed(stat.Panel(), title, description, width=width, height=4)
        .unit(unit or unit_of(expr))
        .targets(targets_of({"": expr}))
        .reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .text_mode(common.BigValueTextMode.AUTO)
        .no_value("none")
    )
    if decimals is not None:
        panel.decimals(decimals)
    if limits is None:
        panel.color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.FIXED).fixed_color("text"))
    else:
        panel.color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        panel.thresholds(_thresholds(limits))
    return panel


def histogram(title: str, description: str, expr: str, *, width: int = HALF) -> AnyPanel:
    """Draw how a histogram's buckets fill over time. The expression is by `le`."""
    target = Dataquery().expr(expr).legend_format("{{le}}").format(PromQueryFormat.HEATMAP).range().ref_id("A")
    panel: heatmap.Panel = (
        framed(heatmap.Panel(), title, description, width=width, height=8)
        .targets([target.datasource(DATASOURCE)])
        .calculate(False)
        .cell_gap(1)
        .y_axis(heatmap.YAxisConfig().unit(unit_of(expr)).axis_placement(common.AxisPlacement.LEFT))
    )
    return panel


def alerts(title: str, description: str, *, width: int, height: int) -> AnyPanel:
    """Show Grafana's own list of our alerts, which can silence them and leads to their runbook.

    The builders know no such panel, so its options stand here as Grafana saves them.
    """
    options = {
        "alertInstanceLabelFilter": "",
        "alertName": "D2tv",
        "dashboardAlerts": False,
        "groupBy": [],
        "groupMode": "default",
        "maxItems": 50,
        "sortOrder": 3,  # by importance
        "stateFilter": {"error": True, "firing": True, "noData": False, "normal": False, "pending": True},
        "viewMode": "list",
    }
    panel = build.Panel().type("alertlist").title(title).description(description)
    return panel.height(height).span(width).options(options)


def targets_of(queries: Mapping[str, str], *, of_table: bool = False) -> list[Builder[variants.Dataquery]]:
    """Return a panel's queries, legend -> expression: their course, or for a table their last values."""
    made: list[Builder[variants.Dataquery]] = []
    for index, (legend, expr) in enumerate(queries.items()):
        target = Dataquery().expr(expr).datasource(DATASOURCE).ref_id(reference(index))
        if legend and not of_table:
            target.legend_format(legend)
        made.append(target.format(PromQueryFormat.TABLE).instant() if of_table else target.range())
    return made


def reference(index: int) -> str:
    """Return Grafana's name of a panel's query by its index: A, B, …"""
    return chr(ord("A") + index)


def _thresholds(limits: Limits) -> build.ThresholdsConfig:
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(limits.steps())
