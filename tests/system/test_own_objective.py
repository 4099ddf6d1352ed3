"""An objective from a file outside the repository, through all that a person would do with it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shards.format.index import Corpus
from tests.support.forkserver import ROOT
from tests.support.harness import FP32, free_port
from tests.support.launch import DEEPSPEED, Launched
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import whole_checkpoints
from trainer.checkpoint.sharded_state import model_weights

STEPS = 24


def environment(folder: Path, module: str = "toy") -> dict[str, str]:
    return {"D2TV_OBJECTIVES": module, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}


class Own(Launched):
    """`deepspeed launcher/train.py` with the objective's module on the path."""

    def __init__(self, folder: Path, run: Path, corpus: Corpus) -> None:
        words = [word for word in tiny_overrides(corpus.directory, run) if not word.startswith("objective.")]
        words += ["batch.groups_per_micro_batch=1", f"training.steps={STEPS}", "checkpoint.every=4"]
        command = [str(DEEPSPEED), "--quiet", "--log_level", "warning", "--num_accelerators", "2"]
        command += ["--master_port", str(free_port()), "launcher/train.py", "--ds_config", str(FP32)]
        command += ["--recipe", str(folder / "toy.yaml"), *words]
        self.start(run, command, ROOT, environment(folder))


def d2tv(folder: Path, *words: object, module: str = "toy") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "launcher.cli", *map(str, words)]
    settings = os.environ | {"DS_ACCELERATOR": "cpu"} | environment(folder, module)
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    shutil.copyfile(ROOT / "tests" / "support" / "toy_objective.py", folder / "toy.py")
    (folder / "toy.yaml").write_text("extends: d2tv\nobjective: {name: toy, pull: 0.2}\n")
    return folder


@pytest.mark.long
def test_it_is_trained_killed_resumed_evaluated_and_exported(tiny_corpus: Corpus, folder: Path) -> None:
    undisturbed, run = folder / "undisturbed", folder / "run"
    with Own(folder, undisturbed, tiny_corpus) as training:
        assert training.wait() == 0, training.output
    with Own(folder, run, tiny_corpus) as training:
        training.until(lambda: bool(whole_checkpoints(run / "checkpoints")))
        training.signal_all(signal.SIGKILL)
        training.wait_for_all()
    with Own(folder, run, tiny_corpus) as training:
        assert training.wait() == 0, training.output
        assert "going on from step" in training.output
        records = training.records("train")
    assert records[-1]["step"] == STEPS
    assert {"nll", "pull"} <= records[-1]["loss"].keys()
    ours, theirs = (model_weights(whole_checkpoints(of / "checkpoints")[0]) for of in (run, undisturbed))
    assert ours["mean_nll"] > 0
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    report = json.loads((run / "evaluation" / "test.json").read_text())
    assert report["examples"] > 0
    assert report["product"] == "seeing", "the first of two networks is the run's own"

    again = d2tv(folder, "evaluate", run, "--directions", "mms", "--product", "plain")
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "evaluation" / "test.json").read_text()) == report
    [place] = run.glob("evaluation/*/test.json")
    assert json.loads(place.read_text())["product"] == "plain"
    exported = d2tv(folder, "export", run, folder / "model", "--product", "plain")
    assert exported.returncode == 0, exported.stderr
    evaluated = d2tv(folder, "evaluate", folder / "model", f"corpus.path={tiny_corpus.directory}")
    assert evaluated.returncode == 0, evaluated.stderr
    (folder / "text.txt").write_text("sun moon star")
    written = [
        d2tv(folder, "summarize", *words, "--to", "en", folder / "text.txt")
        for words in ((run, "--product", "plain"), (folder / "model",))
    ]
    assert [done.returncode for done in written] == [0, 0], written[0].stderr + written[1].stderr
    assert written[0].stdout == written[1].stdout


def test_without_its_module_it_is_refused_in_one_line(tiny_corpus: Corpus, folder: Path) -> None:
    unknown = d2tv(folder, "recipe", folder / "toy.yaml", module="")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1), unknown.stderr
    assert "no objective 'toy'" in unknown.stderr
    assert "D2TV_OBJECTIVES" in unknown.stderr
    absent = d2tv(folder, "recipe", folder / "toy.yaml", module="tyo")
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1), absent.stderr
    assert "D2TV_OBJECTIVES: no module 'tyo'" in absent.stderr
