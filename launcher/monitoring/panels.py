"""Panels of the dashboards: a graph, a number, a histogram, each with the looks that all of them share.

A panel's description says what good looks like; its thresholds are those of launcher/monitoring/rules/alerts.yml.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, stat, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

AnyPanel = Builder[dashboard.Panel]
#: What a person chooses at the top of a dashboard.
DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
#: A dashboard is this wide.
FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One expression of a panel. `legend` names its series, or the column of a table."""

    expr: str
    legend: str = ""


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


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str = "short",
    limits: Limits | None = None,
    width: int = HALF,
    log: bool = False,
    points: bool = False,
) -> AnyPanel:
    """Lines over time, with last, lowest and highest value of each in the legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .height(8)
        .span(width)
        .unit(unit)
        .targets(targets_of(queries))
        .line_width(1)
        .fill_opacity(0)
        .span_nulls(False)
        .show_points(common.VisibilityMode.ALWAYS if points else common.VisibilityMode.AUTO)
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            build_common.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "min", "max"])
        )
        .tooltip(
            build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
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
    query: Query,
    *,
    unit: str = "short",
    decimals: int | None = None,
    limits: Limits | None = None,
    width: int = SIXTH,
) -> AnyPanel:
    """The last value, large, with its course behind it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .height(4)
        .span(width)
        .unit(unit)
        .targets(targets_of([query]))
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


def histogram(title: str, description: str, query: Query, *, unit: str, width: int = HALF) -> AnyPanel:
    """How a histogram's buckets fill over time. The query is by `le`."""
    target = Dataquery().expr(query.expr).legend_format("{{le}}").format(PromQueryFormat.HEATMAP).range().ref_id("A")
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .height(8)
        .span(width)
        .targets([target.datasource(DATASOURCE)])
        .calculate(False)
        .cell_gap(1)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
    )


def alerts(title: str, description: str, *, width: int, height: int) -> AnyPanel:
    """Grafana's own list of alerts, those of ours: it can silence them and leads to their runbook. The builders know no
    such panel, so its options stand here as Grafana saves them."""
    return (
        build.Panel()
        .type("alertlist")
        .title(title)
        .description(description)
        .height(height)
        .span(width)
        .options(
            {
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
        )
    )


def targets_of(queries: Sequence[Query], *, of_table: bool = False) -> list[Builder[variants.Dataquery]]:
    """The queries as a panel has them: their course, or for a table their last values."""
    made: list[Builder[variants.Dataquery]] = []
    for place, query in enumerate(queries):
        target = Dataquery().expr(query.expr).datasource(DATASOURCE).ref_id(reference(place))
        if query.legend:
            target.legend_format(query.legend)
        made.append(target.format(PromQueryFormat.TABLE).instant() if of_table else target.range())
    return made


def reference(place: int) -> str:
    """What Grafana calls a panel's query by its place: A, B, …"""
    return chr(ord("A") + place)


def _thresholds(limits: Limits) -> build.ThresholdsConfig:
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(limits.steps())
