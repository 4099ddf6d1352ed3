"""`d2tv study` with real trainings: stopped in the middle, it goes on, and trains nothing twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shards.index import Corpus
from tests.distributed.harness import FP32, ROOT
from tests.support.waiting import HANGING, until
from tests.tiny import tiny_overrides
from trainer.exit_codes import STOPPED
from trainer.metrics import read_metrics


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
    costs = [json.loads(line) for line in (out / "costs.jsonl").read_text().splitlines()]
    assert [cost["run"] for cost in costs] == ["both-seed3", "d2tv-seed3", "d2tv-seed3"]
    assert all(cost["cpu_seconds"] > 1 for cost in costs)
    text = (out / "study.md").read_text()
    assert "2 trainings with their evaluations took" in text
    assert text.count("| D²TV > Both |") == 3
