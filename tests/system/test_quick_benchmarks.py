"""The quick runs of the benchmarks that start trainings: every figure is there, and nothing is lost."""

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import faults, monitoring, step
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


@pytest.fixture(scope="module")
def quick_step(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float | str | None]:
    """The figures of the small run, of a directory without corpora."""
    directory = tmp_path_factory.mktemp("step")
    out = directory / "out.json"
    assert step.main(["--quick", "--threads", "1", "--data", str(directory), "--json", str(out)]) == 0
    found: dict[str, float | str | None] = json.loads(out.read_text(encoding="utf-8"))
    return found


def test_step_gives_every_figure(quick_step: dict[str, float | str | None]) -> None:
    reasons = " ".join(name for name in quick_step if name.endswith("_missing"))
    for name in step.FIGURES:
        value = quick_step[name]
        if value is None:
            assert name in reasons
        else:
            assert isinstance(value, float)
            assert math.isfinite(value)
            assert value > 0, name
    measured = set(step.FIGURES) - {"real_token_share", "two_ranks_over_one"}
    assert all(quick_step[name] is not None for name in measured)
    assert all(isinstance(value, str | int | float | None) for value in quick_step.values()), "flat"


def test_step_says_where_and_how_it_measured(quick_step: dict[str, float | str | None]) -> None:
    assert quick_step["machine"]
    assert quick_step["torch"] == torch.__version__
    assert quick_step["threads"] == 1
    for name in ("ours_bf16_full_d2tv", "plain_fp32_real_d2tv", "ours_bf16_stories_unshared"):
        assert 0 < quick_step[f"{name}_cpu_share"] < 1.5
        shares = [quick_step[f"{name}_{part}_share"] for part in ("forward", "backward", "optimizer")]
        assert sum(shares) == pytest.approx(1)
        assert quick_step[f"{name}_peak_gb"] > 0


def test_step_says_why_a_figure_of_a_missing_corpus_is_missing(quick_step: dict[str, float | str | None]) -> None:
    assert quick_step["real_token_share"] is None
    assert "no corpus" in str(quick_step["real_token_share_emoji_missing"])
