"""`d2tv study` with real trainings: stopped or killed, it goes on, elsewhere too, and trains nothing twice."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from shards.format.index import Corpus
from tests.support.forkserver import ROOT
from tests.support.harness import FP32
from tests.support.tiny import tiny_overrides
from tests.support.waiting import HANGING, until
from trainer.checkpoint.directory import whole_checkpoints
from trainer.evaluation.predictions import read_predictions
from trainer.liveness.exit_codes import FINISHED, STOPPED
from trainer.telemetry.metrics import read_metrics


@pytest.mark.long
def test_a_study_that_is_stopped_goes_on(tiny_corpus: Corpus, tmp_path: Path) -> None:
    file, out = tmp_path / "mini.yaml", tmp_path / "out"
    study = {"models": {"Both": "mms_mxls", "D²TV": "d2tv"}, "baseline": "Both", "seeds": [3]}
    file.write_text(yaml.safe_dump(study | {"claims": [{"better": "D²TV", "than": "Both"}]}))
    owned = ("run=", "training.seed=")
    words = [word for word in tiny_overrides(tiny_corpus.directory, out) if not word.startswith(owned)]
    words += ["training.steps=100", "checkpoint.every=50", "training.validate_every=100"]
    command = [sys.executable, "-m", "launcher.cli", "study", str(file), "--out", str(out), "--ds_config", str(FP32)]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*command, "--ranks", "1", "--samples", "1000", *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first, second = out / "both-seed3", out / "d2tv-seed3"
    process = start()
    until(lambda: (second / "metrics.jsonl").is_file() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=HANGING)
    assert process.returncode == STOPPED, output
    assert not (out / "study.md").exists()
    log = (first / "metrics.jsonl").read_text()

    process = start()
    output, _ = process.communicate(timeout=HANGING)
    assert process.returncode == 0, output
    assert "1 of 2: Both, seed 3: finished before" in output
    assert (first / "metrics.jsonl").read_text() == log
    assert len([record for record in read_metrics(second / "metrics.jsonl") if record["kind"] == "start"]) == 2
    lines = [json.loads(line) for line in (out / "costs.jsonl").read_text().splitlines()]
    costs = list({line["attempt"]: line for line in lines}.values())  # the last of an attempt counts
    assert [cost["run"] for cost in costs] == ["both-seed3", "d2tv-seed3", "d2tv-seed3"]
    assert all(cost["cpu_seconds"] > 1 and cost["ended"] for cost in costs)
    text = (out / "study.md").read_text()
    assert "2 trainings with their evaluations took" in text
    assert text.count("| D²TV > Both |") == 3
    costs_of = json.loads((out / "study.json").read_text())["step_costs"]
    assert all(cost["seconds"] > 0 and cost["seconds_ratio"] > 0 for cost in costs_of.values())
    assert 1 == costs_of["Both"]["flops_ratio"] < costs_of["D²TV"]["flops_ratio"] < 2


@pytest.mark.long
def test_a_copy_goes_on_where_a_machine_has_died(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """All processes are killed at once, and only the directories are left: elsewhere, and with two ranks."""
    file, here, there = tmp_path / "mini.yaml", tmp_path / "here", tmp_path / "there" / "with more ranks"
    file.write_text(yaml.safe_dump({"models": {"Both": "mms_mxls", "D²TV": "d2tv"}, "baseline": "Both", "seeds": [3]}))
    shutil.copytree(tiny_corpus.directory, here / "corpus")
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(where: Path, ranks: int, *more: str) -> "subprocess.Popen[str]":
        owned = ("run=", "training.seed=")
        words = [word for word in tiny_overrides(where / "corpus", where) if not word.startswith(owned)]
        words += ["training.steps=24", "checkpoint.every=4", "training.validate_every=24"]
        words += ["batch.groups_per_micro_batch=2", *more]
        command = ["study", str(file), "--out", str(where / "out"), "--ds_config", str(FP32), "--ranks", str(ranks)]
        return subprocess.Popen(
            [sys.executable, "-m", "launcher.cli", *command, "--samples", "1000", *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process = start(here, 1)
    try:
        for name in ("both-seed3", "d2tv-seed3"):
            run = here / "out" / name
            until(lambda run=run: whole_checkpoints(run / "checkpoints") or process.poll() is not None)
        assert process.poll() is None, process.communicate()[0]
    finally:
        one = psutil.Process(process.pid)
        family = [one, *one.children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.Error):  # it followed another one
                member.kill()
    process.communicate(timeout=HANGING)
    psutil.wait_procs(family, HANGING)
    began = json.loads((here / "out" / "costs.jsonl").read_text().splitlines()[-1])
    assert (began["run"], began["ended"]) == ("d2tv-seed3", False)
    shutil.copytree(here / "corpus", there / "corpus")
    shutil.copytree(here / "out", there / "out", copy_function=shutil.copyfile)  # times and modes are lost
    here.rename(tmp_path / "gone")

    process = start(there, 2, "optimizer.learning_rate=0.1")
    output, _ = process.communicate(timeout=HANGING)
    assert process.returncode == 2, output
    first = there / "out" / "both-seed3"
    assert f"error: {first} was begun with another optimizer.learning_rate (" in output

    process = start(there, 2)
    output, _ = process.communicate(timeout=HANGING)
    assert process.returncode == FINISHED, output
    assert "1 of 2: Both, seed 3: finished before" in output
    for path in (tmp_path / "gone" / "out" / "both-seed3").rglob("*"):
        if path.is_file():
            assert (
                first / path.relative_to(tmp_path / "gone" / "out" / "both-seed3")
            ).read_bytes() == path.read_bytes()
    records = read_metrics(there / "out" / "d2tv-seed3" / "metrics.jsonl")
    assert [record["step"] for record in records if record["kind"] == "train"] == list(range(1, 25))
    starts = [record for record in records if record["kind"] == "start"]
    assert [record["world_size"] for record in starts] == [1, 2]
    assert len(read_predictions(there / "out" / "d2tv-seed3", "test")) == len(read_predictions(first, "test"))
    costs = [json.loads(line) for line in (there / "out" / "costs.jsonl").read_text().splitlines()]
    assert len({cost["attempt"] for cost in costs}) == 3
    text = (there / "out" / "study.md").read_text()
    assert "CPU minutes, in 3 attempts, of which 1 was cut off: their last minute is not counted." in text
    assert "cost is not known" not in text
