"""Tables of the dashboards: one query's series, many queries joined, a matrix with coloured cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import common, dashboard

from launcher.monitoring.panels import FULL, HALF, AnyPanel, Limits, framed, reference, targets_of
from launcher.monitoring.queries import unit as unit_of

#: The column of the rows' names, as groupingToMatrix calls it.
_CORNER = "source\\target"
_THRESHOLDS = dashboard.FieldColorModeId.THRESHOLDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table. limits, scheme: what colours its cells, fixed values or the range of what is shown."""

    name: str
    expr: str = ""
    unit: str = ""  # by default that of the expression's metric
    decimals: int | None = None
    limits: Limits | None = None
    scheme: dashboard.FieldColorModeId | None = None
    links: Mapping[str, str] = field(default_factory=dict)  # title -> address

    def properties(self) -> list[dashboard.DynamicConfigValue]:
        made: dict[str, object] = {"unit": self.unit or unit_of(self.expr)}
        if self.decimals is not None:
            made["decimals"] = self.decimals
        if self.limits is not None:
            made["thresholds"] = {"mode": "absolute", "steps": [step.to_json() for step in self.limits.steps()]}
        if self.limits is not None or self.scheme is not None:
            made["color"] = {"mode": self.scheme or _THRESHOLDS}
            made["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        if self.links:
            made["links"] = [{"title": title, "url": url} for title, url in self.links.items()]
        return _properties(made)


def listing(
    title: str,
    description: str,
    expr: str,
    labels: Sequence[str],
    value: Column | None = None,
    *,
    width: int = HALF,
    height: int = 8,
) -> AnyPanel:
    """Show one query's series: `labels` as columns in this order, then the value, the largest first, if it has one."""
    hidden = {"Time": True, "__name__": True, "job": True, "instance": True} | ({} if value else {"Value": True})
    order = {name: index for index, name in enumerate([*labels, "Value"])}
    panel = _table(title, description, [expr], width=width, height=height, no_value="none")
    panel.transformations([_organized(hidden, order, {"Value": value.name} if value else {})])
    if value is not None:
        panel.override_by_name(value.name, value.properties())
        panel.sort_by([build_common.TableSortByFieldState().display_name(value.name).desc(True)])
    return panel


def joined(
    title: str, description: str, key: Column, columns: Sequence[Column], *, sort: str, height: int = 12
) -> AnyPanel:
    """Show a row for every value of the label `key.name`, the only one of each column's expression, lowest first."""
    panel = _table(title, description, [column.expr for column in columns], width=FULL, height=height)
    names = [f"Value #{reference(index)}" for index in range(len(columns))]
    order = {name: index for index, name in enumerate([key.name, *names])}
    renamed = {name: column.name for name, column in zip(names, columns, strict=True)}
    merged = dashboard.DataTransformerConfig(id_val="merge", options={})
    panel.transformations([merged, _organized({"Time": True}, order, renamed)])
    for column in (key, *columns):
        panel.override_by_name(column.name, column.properties())
    panel.sort_by([build_common.TableSortByFieldState().display_name(sort).desc(False)])
    return panel


def matrix(title: str, description: str, cell: Column, *, height: int) -> AnyPanel:
    """Show a row for every `source`, a column for every `target`, coloured cells: a heat map with names."""
    panel = _table(title, description, [cell.expr], width=FULL, height=height)
    options = {"rowField": "source", "columnField": "target", "valueField": "Value", "emptyValue": "null"}
    grouped = dashboard.DataTransformerConfig(id_val="groupingToMatrix", options=options)
    # Prometheus gives its series in no order; columns come in that of their first row.
    panel.transformations([_sorted_by("target"), grouped, _sorted_by(_CORNER)])
    # 44 of them are as wide as a screen.
    panel.override_by_regexp("/.*/", [*cell.properties(), *_properties({"custom.width": 44})])
    of_names = {"custom.width": 140, "custom.cellOptions": {"type": "auto"}, "unit": "string"}
    panel.override_by_name(_CORNER, _properties(of_names))
    return panel


def _table(
    title: str, description: str, exprs: Sequence[str], *, width: int, height: int, no_value: str = ""
) -> table.Panel:
    queries = {str(index): expr for index, expr in enumerate(exprs)}
    panel: table.Panel = (
        framed(table.Panel(), title, description, width=width, height=height)
        .targets(targets_of(queries, of_table=True))
        .cell_height(common.TableCellHeight.SM)
        .no_value(no_value)
    )
    return panel


def _properties(values: Mapping[str, object]) -> list[dashboard.DynamicConfigValue]:
    return [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]


def _organized(
    hidden: dict[str, bool], order: dict[str, int], renamed: dict[str, str]
) -> dashboard.DataTransformerConfig:
    options = {"excludeByName": hidden, "indexByName": order, "renameByName": renamed}
    return dashboard.DataTransformerConfig(id_val="organize", options=options)


def _sorted_by(field_name: str) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": field_name}]})
