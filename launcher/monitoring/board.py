"""A dashboard: rows of panels, the variables at its top, the links between all of ours."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard

from launcher.monitoring.panels import DATASOURCE, AnyPanel

#: All our dashboards have it, and link to each other by it.
TAG = "d2tv"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels under a title."""

    title: str
    panels: Sequence[AnyPanel]


def assemble(
    *,
    uid: str,
    title: str,
    description: str,
    variables: Sequence[build.QueryVariable],
    alerts: str,
    rows: Sequence[Row],
    since: str = "now-6h",
) -> dashboard.Dashboard:
    """Put the rows in their places and number the panels: the same input gives the same dashboard.

    alerts: selects those that are drawn into the graphs.
    """
    link = build.DashboardLink("D2TV").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
    fired = build.AnnotationQuery().name("Alerts").datasource(DATASOURCE).enable(True).icon_color("red")
    board = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .timezone("browser")
        .refresh("30s")
        .link(link.as_dropdown(False).include_vars(True).keep_time(True))
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .annotation(
            fired.expr(f'ALERTS{{alertstate="firing",{alerts}}}')
            .title_format("{{alertname}}")
            .text_format("{{severity}} {{run}} {{node}} {{target}}")
        )
    )
    for variable in variables:
        board.with_variable(variable)
    for row in rows:
        board.with_row(build.Row(row.title))
        for panel in row.panels:
            board.with_panel(panel)
    made = board.build()
    for number, built in enumerate(made.panels or (), start=1):
        built.id_val = number
    return made


def one_run() -> build.QueryVariable:
    """`$run`, the name of one run's directory."""
    return _labels("run", "Run", "label_values(d2tv_step, run)")


def some_runs() -> build.QueryVariable:
    """`$run`, any number of them, for `run=~"$run"`."""
    return _labels("run", "Runs", "label_values(d2tv_step, run)").multi(True).include_all(True).all_value(".*")


def some_nodes() -> build.QueryVariable:
    """`$node`, any number of the run's nodes, for `node=~"$node"`."""
    query = 'label_values(d2tv_progress_timestamp_seconds{run="$run"}, node)'
    return _labels("node", "Nodes", query).multi(True).include_all(True).all_value(".*")


def _labels(name: str, label: str, query: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        # As Grafana saves one that was made by hand.
        .query({"query": query, "qryType": 1, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )
