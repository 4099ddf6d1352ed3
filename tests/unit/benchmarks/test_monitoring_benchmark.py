"""The monitoring benchmark: its small run for real, in a process of its own, as its process group wants it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.monitoring import FIGURES, Stopwatch
from tests.distributed.harness import ROOT


def test_quick_run_has_every_figure(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.monitoring", "--quick", "--json", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found.keys() >= FIGURES.keys()
    assert all(found[name] > 0 for name in FIGURES)
    assert found["step_overhead_share"] < 1
    # Those by language, with the 20 worst, 10 rarest and 65 unreadable directions: no figure of an empty page.
    assert found["series"] > 600
    assert found["scrape_kb_matrix"] > found["scrape_kb"] > found["scrape_kb_gzip"]


def test_the_stopwatch_counts_every_call_and_those_that_fail() -> None:
    class Clock:
        def tick(self, fail: bool = False) -> int:
            if fail:
                raise ValueError("fails")
            return 7

    clock, watch = Clock(), Stopwatch()
    watch.around(clock, "tick", "ticks")
    assert clock.tick() == 7
    first = watch.seconds["ticks"]
    with pytest.raises(ValueError, match="fails"):
        clock.tick(fail=True)
    assert watch.seconds["ticks"] > first > 0
