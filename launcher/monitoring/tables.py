"""Tables of the dashboards: one query's series, many queries joined, a matrix with coloured cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import common, dashboard

from launcher.monitoring.panels import DATASOURCE, FULL, HALF, AnyPanel, Limits, Query, reference, targets_of

#: What groupingToMatrix calls the column of the rows' names.
_CORNER = "source\\target"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table. limits, scheme: what colours its cells, fixed values or the range of what is shown."""

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
    names = [f"Value #{reference(number)}" for number in range(len(columns))]
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
    # 44 of them are as wide as a screen.
    narrow = dashboard.DynamicConfigValue(id_val="custom.width", value=44)
    panel.override_by_regexp("/.*/", [*cell.properties(), narrow])
    of_names: dict[str, object] = {"custom.width": 140, "custom.cellOptions": {"type": "auto"}, "unit": "string"}
    panel.override_by_name(
        _CORNER, [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in of_names.items()]
    )
    return panel


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
        .targets(targets_of(queries, of_table=True))
        .cell_height(common.TableCellHeight.SM)
        .no_value(no_value)
    )


def _sorted_by(field_name: str) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": field_name}]})
