"""Rules: promtool reads them, fires each alert and keeps it silent; they read what there is and lead to the runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.monitoring import MONITORING, ROOT, RULES, alerts, recorded, rule_groups, unknown

SCENARIOS = sorted(Path(__file__).with_name("rules").glob("*.yml"))
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt install prometheus")


def promtool(*words: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def scenarios() -> list[dict[str, Any]]:
    return [test for path in SCENARIOS for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]]


@needs_promtool
def test_prometheus_reads_its_configuration() -> None:
    said = promtool("check", "config", MONITORING / "prometheus.yml")
    assert "2 rule files found" in said


@needs_promtool
def test_prometheus_reads_the_rules() -> None:
    said = promtool("check", "rules", *sorted(RULES.glob("*.yml")))
    assert f"{len(recorded())} rules found" in said
    assert f"{len(alerts())} rules found" in said


@needs_promtool
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_alerts_fire_and_are_silent(scenario: Path) -> None:
    promtool("test", "rules", scenario)


def test_every_alert_is_seen_firing_and_silent_by_the_scenarios() -> None:
    fired, silent = set(), set()
    for test in scenarios():
        for case in test.get("alert_rule_test", ()):
            (fired if case.get("exp_alerts") else silent).add(case["alertname"])
    assert fired == set(alerts())
    assert silent == set(alerts())


def test_scenarios_evaluate_all_groups_in_one_order() -> None:
    """Without, promtool shuffles them, and a scenario holds on one day and not on the next."""
    groups = [group["name"] for name in ("recording.yml", "alerts.yml") for group in rule_groups(name)]
    for path in SCENARIOS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["group_eval_order"] == groups


def test_rules_read_only_what_there_is() -> None:
    expressions = [*recorded().values(), *(rule["expr"] for rule in alerts().values())]
    assert [problem for expr in expressions for problem in unknown(expr)] == []
    assert unknown("d2tv_nonsense > 1") == ["d2tv_nonsense in d2tv_nonsense > 1"]
    assert unknown('d2tv_step{target="urdu"}') == ['label target of d2tv_step in d2tv_step{target="urdu"}']


def test_what_is_recorded_is_used() -> None:
    read = [rule["expr"] for rule in alerts().values()] + list(recorded().values())
    read += [path.read_text(encoding="utf-8") for path in MONITORING.glob("dashboards/*.json")]
    read += [rule["annotations"]["description"] for rule in alerts().values()]
    assert [name for name in recorded() if not any(name in text for text in read)] == []


def test_a_recorded_name_says_which_labels_are_left() -> None:
    for name, expr in recorded().items():
        level = name.split(":")[0].split("_")
        if expr.startswith("time() -") or re.match(r"\w+ by", expr):
            assert f"by ({', '.join(level)})" in expr, name


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_is_wrong_with_its_values_and_where_to_read_on(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("critical", "warning")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook"}
    assert "$labels" in said["summary"]
    assert "$value" in said["description"] or "$labels" in said["description"] or name == "D2tvRolledBack"
    assert said["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_a_section_an_alert() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    title, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert "One section an alert" in title
    assert [section.splitlines()[0] for section in sections] == list(alerts())
    for section in sections:
        assert "\n- Do: " in section, section.splitlines()[0]


def test_the_runbook_names_alerts_panels_and_dashboards_that_exist() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"))
    assert set(re.findall(r"\bD2tv\w+", text)) <= set(alerts())
    boards = "".join(path.read_text(encoding="utf-8") for path in MONITORING.glob("dashboards/*.json"))
    named = re.findall(r'(?:panel|dashboard|Look:) "([^"]+)"', text)
    assert len(named) > 8
    assert [title for title in named if f'"title": "{title}' not in boards] == []
