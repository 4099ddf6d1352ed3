"""The quick runs of the benchmarks: every figure is there, and nothing is lost or left behind.

Of those that start trainings: test_quick_trainings.py.
"""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import decode, loader, scoring, step
from benchmarks.decode_work import LANGUAGES
from tests.support.forkserver import ROOT
from tests.support.waiting import HANGING

pytestmark = pytest.mark.long


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


def test_loader_gives_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """webdataset is a dependency, so one peer is there for certain; who is missing has null and a printed reason."""
    data, out = tmp_path / "data", tmp_path / "out.json"
    data.mkdir()
    assert loader.main(["--quick", "--dir", str(data), "--json", str(out)]) == 0
    assert not list(data.iterdir())

    found = json.loads(out.read_text(encoding="utf-8"))
    assert all(isinstance(value, str | int | float | None) for value in found.values()), "flat"
    for name in ("vs_pread", "vs_webdataset", "cpu_seconds_per_gb"):
        assert found[name] > 0
    # Everything that is timed delivered something, and at no more than the machine's whole time.
    speeds = [name for name in found if name.endswith("_gb_per_second")]
    assert {"pread_gb_per_second", "sequential_gb_per_second", "d2tv_t0_io0_gb_per_second"} <= set(speeds)
    assert {"d2tv_t1_io2_gb_per_second", "webdataset_w1_gb_per_second"} <= set(speeds)
    for name in speeds:
        assert found[name] > 0
        assert found[name.removesuffix("gb_per_second") + "cpu_seconds_per_gb"] >= 0
    assert 0 <= found["others_processors"] <= (os.cpu_count() or 1)
    assert found["d2tv_best"] in ("t0 io0", "t0 io2", "t1 io0", "t1 io2")

    printed = "".join(capsys.readouterr().out.split())
    for name in ("energon", "mosaicml", "litdata"):
        assert f"vs_{name}" in found
        if found[f"vs_{name}"] is None:
            assert "".join(found[f"{name}_missing"].split()) in printed
        else:
            assert found[f"{name}_version"]


def test_an_interrupted_loader_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.loader", "--quick", "--dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert any(line.startswith("round 1") for line in started.stdout)
        assert list(tmp_path.iterdir())
        started.send_signal(signal.SIGINT)
        assert started.wait(timeout=HANGING) == 130
    assert not list(tmp_path.iterdir())


def test_decode_gives_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_EMOJI", tmp_path / "none")
    out = tmp_path / "out.json"
    assert decode.main(["--quick", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    for name in decode.FIGURES:
        if name.startswith("decode_speedup_emoji"):
            assert found[name] is None
        else:
            assert found[name] > 0
    assert found["decode_examples"] == decode.QUICK.batch * decode.QUICK.sources * len(LANGUAGES)
    shown = capsys.readouterr()
    assert "decode_speedup" in shown.out
    assert "no figure of the emoji corpus" in shown.err


def test_scoring_gives_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert scoring.main(["--quick", "--processes", "2", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    for name in scoring.FIGURES:
        assert math.isfinite(found[name])
        assert found[name] > 0
    assert (found["pairs"], found["processes"]) == (1_350, 2)
    assert "pairs_per_second" in capsys.readouterr().out
