"""Dashboards: as their builder builds them, with queries of declared metrics and descriptions to act on."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring import build_dashboards
from tests.support.monitoring import MONITORING, alerts, dashboards, panel_queries, selectors, served_series, unknown

register_default_plugins()
BOARDS = dashboards()
every_board = pytest.mark.parametrize("name", BOARDS)


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]


def test_building_again_gives_what_is_committed() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in MONITORING.glob("dashboards/*.json")}
    assert build_dashboards.dashboards() == committed, "python -m launcher.monitoring.build_dashboards"


def test_there_are_four() -> None:
    assert [(board["uid"], board["title"]) for board in BOARDS.values()] == [
        ("d2tv-data", "D2TV data and languages"),
        ("d2tv-fleet", "D2TV fleet"),
        ("d2tv-hardware", "D2TV hardware and stragglers"),
        ("d2tv-run", "D2TV run"),
    ]


@every_board
def test_every_query_reads_what_there_is(name: str) -> None:
    expressions = [query.expr for query in panel_queries(BOARDS[name])]
    expressions += [annotation["expr"] for annotation in BOARDS[name]["annotations"]["list"]]
    assert [problem for expr in expressions for problem in unknown(expr)] == []


def test_every_metric_is_in_some_panel_or_rule() -> None:
    """Serve nothing that nobody would ever see."""
    read = {name for board in BOARDS.values() for query in panel_queries(board) for name, _ in selectors(query.expr)}
    text = "".join(path.read_text(encoding="utf-8") for path in MONITORING.glob("rules/*.yml"))
    left = {name for name in served_series() if name not in read and not re.search(rf"\b{name}\b", text)}
    # A sum and a count of which only the buckets are shown.
    assert left == {"d2tv_data_wait_seconds_sum", "d2tv_data_wait_seconds_count"}


@every_board
def test_variables_choose_data_source_run_and_node(name: str) -> None:
    variables = {variable["name"]: variable for variable in BOARDS[name]["templating"]["list"]}
    assert list(variables)[:2] == ["datasource", "run"]
    assert variables["datasource"]["type"] == "datasource"
    text = json.dumps(BOARDS[name]["panels"])
    used = set(re.findall(r"\$(\w+)", re.sub(r"\$\{__[^}]*\}", "", text))) | {"datasource"}
    assert used == set(variables)
    for variable in list(variables.values())[1:]:
        expr = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert expr is not None
        assert unknown(expr[1]) == []
        assert variable["query"]["query"] == variable["definition"]
        assert expr[2] == variable["name"]
    # A variable of many values is a regular expression.
    many = [variable["name"] for variable in variables.values() if variable["multi"]]
    for variable in many:
        assert f'="${variable}"' not in text.replace('\\"', '"').replace("=~", "")


@every_board
def test_every_panel_says_what_good_looks_like(name: str) -> None:
    for panel in panels(name):
        assert len(panel["description"]) > 12, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
    good = [panel for panel in panels(name) if re.search(r"\bGood: ", panel["description"])]
    assert len(good) > len(panels(name)) / 2
    text = " ".join(panel["description"] for panel in panels(name))
    assert set(re.findall(r"\bD2tv\w+", text)) <= set(alerts())


@every_board
def test_panels_lie_side_by_side_and_have_numbers_of_their_own(name: str) -> None:
    everything = BOARDS[name]["panels"]
    assert [panel["id"] for panel in everything] == list(range(1, len(everything) + 1))
    assert len({panel["title"] for panel in everything if panel["type"] != "row"}) == len(panels(name))
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@every_board
def test_graphs_have_units_and_legends(name: str) -> None:
    for panel in panels(name):
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"]
        if panel["type"] == "timeseries":
            for target in panel["targets"]:
                assert target["legendFormat"], panel["title"]
                for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                    by_it = re.search(rf"by \([^)]*\b{label}\b", target["expr"])
                    assert by_it or label in ("rank", "node", "run", "target"), target["expr"]


@every_board
def test_columns_that_are_named_are_the_queries(name: str) -> None:
    """An override of a column that is not there would be silent."""
    for panel in panels(name):
        if panel["type"] != "table":
            continue
        kinds = [step["id"] for step in panel["transformations"]]
        overridden = [one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]]
        if "groupingToMatrix" in kinds:
            assert overridden == ["/.*/", "source\\target"]
            continue
        organize = panel["transformations"][-1]["options"]
        assert set(overridden) <= {*organize["renameByName"].values(), *organize["indexByName"]}
        if "merge" in kinds:
            assert set(organize["renameByName"]) == {f"Value #{target['refId']}" for target in panel["targets"]}


def test_the_matrix_of_directions_falls_back_to_the_worst() -> None:
    (panel,) = (panel for panel in panels("d2tv-data.json") if panel["title"].startswith("NLL of every direction"))
    (target,) = panel["targets"]
    assert [name for name, _ in selectors(target["expr"])] == [
        "d2tv_direction_nll_nats",
        "d2tv_worst_direction_nll_nats",
    ]
    steps = [step["id"] for step in panel["transformations"]]
    assert steps == ["sortBy", "groupingToMatrix", "sortBy"]
    cells = panel["fieldConfig"]["overrides"][0]["properties"]
    assert {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}} in cells


@every_board
def test_the_schema_knows_every_field(name: str) -> None:
    """Read into the schema's classes and written again, nothing is lost: no field that Grafana would not know."""
    board = BOARDS[name]
    again = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    for shown in (*again["links"], *again["annotations"]["list"]):
        del shown["placement"]
    assert again == board


def test_thresholds_are_those_of_the_alerts() -> None:
    def limits(board: str, title: str) -> list[float]:
        (panel,) = (panel for panel in panels(board) if panel["title"] == title)
        return [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]

    rules = {name: rule["expr"] for name, rule in alerts().items()}
    assert f"> {limits('d2tv-run.json', 'A crash would cost')[-1]}" in rules["D2tvWorkUnsaved"]
    assert f"> {limits('d2tv-hardware.json', 'Its lag')[-1]}" in rules["D2tvStraggler"]
    assert f"> {limits('d2tv-hardware.json', 'Waiting for data')[-1]}" in rules["D2tvDataBound"]
    assert f"> {limits('d2tv-data.json', 'Retries an example')[-1]}" in rules["D2tvReadRetriesRising"]
    lowest = limits("d2tv-hardware.json", "Host memory that can be had, by node")[0]
    assert f"< {lowest}" in rules["D2tvMemoryNearlyFull"]


def test_grafana_is_provisioned_with_what_lies_there() -> None:
    """A Grafana is no package anywhere, so that the two files are YAML of the right keys is all that is held here."""
    (provider,) = yaml.safe_load((MONITORING / "provisioning/dashboards/d2tv.yml").read_text())["providers"]
    path = provider["options"]["path"].replace("$D2TV_MONITORING", str(MONITORING))
    assert sorted(Path(path).iterdir()) == sorted(MONITORING.glob("dashboards/*.json"))
    (source,) = yaml.safe_load((MONITORING / "provisioning/datasources/d2tv.yml").read_text())["datasources"]
    settings = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == settings["global"]["scrape_interval"]


def test_dashboards_of_others_are_named_and_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_dashboards, "DIRECTORY", tmp_path)
    assert build_dashboards.main() == 0
    (tmp_path / "ours.json").write_text("{}")
    assert build_dashboards.main() == 1
    assert capsys.readouterr().err == f"warning: not built here, remove them from {tmp_path}: ours.json\n"
    assert (tmp_path / "ours.json").read_text() == "{}"
