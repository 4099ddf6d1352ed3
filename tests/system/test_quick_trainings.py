"""The quick runs of the benchmarks that start trainings: every figure is there, and no example is lost."""

import json
from pathlib import Path

import pytest

from benchmarks import faults, monitoring
from tests.support.forkserver import Program
from tests.support.waiting import HANGING

pytestmark = pytest.mark.long


def test_faults_survives_every_kill(tmp_path: Path) -> None:
    """A life that is killed while it starts, saves, evaluates or trains: a matter of the seed."""
    out = tmp_path / "out.json"
    assert faults.main(["--quick", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found.keys() >= faults.FIGURES.keys()
    assert found["kills"] == faults.QUICK_KILLS
    assert (found["unusable_resumes"], found["examples_lost"], found["examples_repeated"]) == (0, 0, 0)
    assert found["bitwise_equal"] == 1
    assert found["runs"] >= 1
    for name in ("restart_seconds", "takedown_seconds", "term_to_checkpoint_seconds", "checkpoint_write"):
        assert found[name] > 0
    assert 0 < found["goodput"] < 1


def test_monitoring_gives_every_figure(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    log = tmp_path / "log"
    program = Program("benchmarks.monitoring", ["--quick", "--json", str(out)], output=log)  # its own process group
    assert program.wait(HANGING) == 0, log.read_text()
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found.keys() >= monitoring.FIGURES.keys()
    assert all(found[name] > 0 for name in monitoring.FIGURES)
    # Those by language, with the 20 worst, 10 rarest and 65 unreadable directions: no figure of an empty page.
    assert found["series"] > 600
    assert found["scrape_kb_matrix"] > found["scrape_kb"] > found["scrape_kb_gzip"]
