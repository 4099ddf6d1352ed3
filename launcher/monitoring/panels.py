"""Panels of the dashboards: a graph, a number, a table, a matrix, each with the looks that all of them share.

A panel's description says what good looks like; its thresholds are those of launcher/monitoring/rules/alerts.yml.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, stat, table, timeseries
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
#: What groupingToMatrix calls the column of the rows' names.
_CORNER = "source\\target"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table. `values`: a continuous colour scheme over all cells, `limits`: coloured by them."""

    name: str
    unit: str = "short"
    decimals: int | None = None
    limits: Limits | None = None
    scheme: dashboard.FieldColorModeId | None = None
    links: Mapping[str, str] = field(default_factory=dict)  # title -> address

    def properties(self) -> list[dashboard.DynamicConfigValue]:
        made: dict[str, object] = {"unit": self.unit}
        if self.decimals is not None:
            made["decimals"] = self.decimals
        if self.limits is not None:
            made["thresholds"] = {"mode": "absolute", "steps": [step.to_json() for step in self.limits.steps()]}
            made["color"] = {"mode": dashboard.FieldColorModeId.THRESHOLDS}
        if self.scheme is not None:
            made["color"] = {"mode": self.scheme}
        if self.limits is not None or self.scheme is not None:
            made["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        if self.links:
            made["links"] = [{"title": title, "url": url} for title, url in self.links.items()]
        return [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in made.items()]


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
        .targets(_targets(queries))
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
        .targets(_targets([query]))
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


def listing(
    title: str,
    description: str,
    query: Query,
    *,
    labels: Sequence[str],
    value: Column | None = None,
    width: int = HALF,
    height: int = 8,
    descending: bool = True,
    no_value: str = "none",
) -> AnyPanel:
    """A table of one query's series: `labels` as columns in this order, then the value, which sorts it, if it has a
    column."""
    order = {name: number for number, name in enumerate(labels)} | {"Value": len(labels)}
    hidden = {"Time": True, "__name__": True, "job": True, "instance": True}
    if value is None:
        hidden["Value"] = True
    options = {"excludeByName": hidden, "indexByName": order, "renameByName": {"Value": value.name} if value else {}}
    panel = _table(title, description, [query], width=width, height=height, no_value=no_value)
    panel.transformations([dashboard.DataTransformerConfig(id_val="organize", options=options)])
    if value is not None:
        panel.override_by_name(value.name, value.properties())
        panel.sort_by([build_common.TableSortByFieldState().display_name(value.name).desc(descending)])
    return panel


def joined(
    title: str,
    description: str,
    key: Column,
    columns: Sequence[tuple[Column, str]],
    *,
    sort: str,
    descending: bool,
    width: int = FULL,
    height: int = 12,
) -> AnyPanel:
    """A table with a row for every value of the label `key.name`, and a column for every (column, expression): each
    expression has that label alone."""
    panel = _table(title, description, [Query(expr=expr) for _, expr in columns], width=width, height=height)
    names = [f"Value #{_reference(number)}" for number in range(len(columns))]
    panel.transformations(
        [
            dashboard.DataTransformerConfig(id_val="merge", options={}),
            dashboard.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {key.name: 0} | {name: number + 1 for number, name in enumerate(names)},
                    "renameByName": {name: column.name for name, (column, _) in zip(names, columns, strict=True)},
                },
            ),
        ]
    )
    for column in (key, *(column for column, _ in columns)):
        panel.override_by_name(column.name, column.properties())
    panel.sort_by([build_common.TableSortByFieldState().display_name(sort).desc(descending)])
    return panel


def matrix(title: str, description: str, query: Query, cell: Column, *, height: int) -> AnyPanel:
    """A row for every `source`, a column for every `target`, coloured cells: a heat map with names."""
    panel = _table(title, description, [query], width=FULL, height=height)
    panel.transformations(
        [
            # Prometheus gives its series in no order; columns come in that of their first row.
            _sorted_by("target"),
            dashboard.DataTransformerConfig(
                id_val="groupingToMatrix",
                options={"rowField": "source", "columnField": "target", "valueField": "Value", "emptyValue": "null"},
            ),
            _sorted_by(_CORNER),
        ]
    )
    narrow = dashboard.DynamicConfigValue(id_val="custom.width", value=64)
    panel.override_by_regexp("/.*/", [*cell.properties(), narrow])
    of_names: dict[str, object] = {"custom.width": 140, "custom.cellOptions": {"type": "auto"}, "unit": "string"}
    panel.override_by_name(
        _CORNER, [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in of_names.items()]
    )
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


def _table(
    title: str, description: str, queries: Sequence[Query], *, width: int, height: int, no_value: str = ""
) -> table.Panel:
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .height(height)
        .span(width)
        .targets(_targets(queries, of_table=True))
        .cell_height(common.TableCellHeight.SM)
        .no_value(no_value)
    )


def _targets(queries: Sequence[Query], *, of_table: bool = False) -> list[Builder[variants.Dataquery]]:
    made: list[Builder[variants.Dataquery]] = []
    for place, query in enumerate(queries):
        target = Dataquery().expr(query.expr).datasource(DATASOURCE).ref_id(_reference(place))
        if query.legend:
            target.legend_format(query.legend)
        made.append(target.format(PromQueryFormat.TABLE).instant() if of_table else target.range())
    return made


def _sorted_by(field_name: str) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": field_name}]})


def _reference(place: int) -> str:
    return chr(ord("A") + place)


def _thresholds(limits: Limits) -> build.ThresholdsConfig:
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(limits.steps())
