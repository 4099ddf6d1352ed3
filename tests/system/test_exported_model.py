"""A real run, exported through the real command line: its own scores, and transformers alone loads the text part."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.ragged import cross_layout, self_layout
from shards.format.index import Corpus
from tests.support.forkserver import run as d2tv
from tests.support.launch import Training
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.sharded_state import model_weights
from trainer.evaluation.predictions import read_predictions
from trainer.trained import open_model

STOCK = """
import json, sys
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM

where, out = sys.argv[1:]
model = AutoModelForSeq2SeqLM.from_pretrained(where).eval()
with safe_open(f"{where}/model.safetensors", framework="pt") as stored:
    model.lm_head.bias = torch.nn.Parameter(stored.get_tensor("lm_head.bias"))
with torch.no_grad():
    ids = torch.arange(3, 20)[None]
    found = model(input_ids=ids, decoder_input_ids=ids[:, :7])
save_file({"memory": found.encoder_last_hidden_state, "logits": found.logits}, out)
ours = [name for name in sys.modules if name.split(".")[0] in ("trainer", "models", "shards", "launcher")]
print(json.dumps(ours))
"""


@pytest.fixture(scope="module")
def run(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks, long enough to write something that is worth comparing; evaluated."""
    directory = tmp_path_factory.mktemp("exported") / "run"
    words = [*tiny_overrides(tiny_corpus.directory, directory), "batch.groups_per_micro_batch=2", "training.steps=60"]
    words += ["checkpoint.every=60", "training.validate_every=60", "evaluation.length_penalty=3"]
    with Training(directory, words) as training:
        assert training.wait() == 0, training.output
    return directory


@pytest.fixture(scope="module")
def model(run: Path) -> Path:
    directory = run.with_name("model")
    done = d2tv("export", run / "checkpoints" / "latest", directory)
    assert done.returncode == 0, done.stderr
    assert f"step-00000060 exported to {directory}" in done.stdout
    return directory


def read_report(directory: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((directory / "evaluation" / "test.json").read_text())
    return report


def test_the_weights_are_the_masters(run: Path, model: Path) -> None:
    masters = model_weights(run / "checkpoints" / "step-00000060")
    state = open_model(model).network.state_dict()
    assert [name for name in state if not torch.equal(state[name], masters[f"network.{name}"])] == []
    assert {name for name in masters if name.removeprefix("network.") not in state} == {
        "project.weight",
        "project.bias",
    }


def test_the_card_has_the_runs_own_scores(run: Path, model: Path) -> None:
    card, report = (model / "README.md").read_text(), read_report(run)
    assert "Not evaluated" not in card
    for kind, scores in report["by_kind"].items():
        assert f"| {kind.upper()} | {scores['rouge1']:.2f} | {scores['rouge2']:.2f} | {scores['rougeL']:.2f} |" in card
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    nll = next(record["nll"] for record in reversed(last) if record["kind"] == "validation")
    assert f"MMS {nll['mms']:.3f}, MXLS {nll['mxls']:.3f}." in card


def test_evaluation_of_model_and_checkpoint_gives_the_runs_scores(run: Path, model: Path, tiny_corpus: Corpus) -> None:
    before, predictions = read_report(run), read_predictions(run, "test")
    assert len({row.prediction for row in predictions}) > 1, "always the same would prove little"
    (line,) = re.findall(r"^d2tv (evaluate .*)$", (model / "README.md").read_text(), re.M)
    done = d2tv(*line.replace("CORPUS", str(tiny_corpus.directory)).split(), directory=model)
    assert done.returncode == 0, done.stderr
    assert "MXLS" in done.stdout
    assert read_report(run) == before, "a model's results are the model's own"
    assert same_scores(read_report(model), before)
    assert read_predictions(model, "test") == predictions
    (run / "evaluation" / "test.json").unlink()
    done = d2tv("evaluate", run / "checkpoints" / "step-00000060")
    assert done.returncode == 0, done.stderr
    again = read_report(run)
    assert again["checkpoint"] == before["checkpoint"] != read_report(model)["checkpoint"]
    assert same_scores(again, before)
    assert read_predictions(run, "test") == predictions


def same_scores(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """ROUGE to the last bit; the means of the NLL were summed in another order by two ranks."""
    for kind in ("mms", "mxls"):
        assert one["nll"][kind] == pytest.approx(other["nll"][kind], rel=1e-5)
    return bool(one["by_direction"] == other["by_direction"]) and one["step"] == other["step"] == 60


def test_transformers_alone_computes_the_same(model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(model), str(tmp_path / "found")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    theirs = load_file(tmp_path / "found")
    backbone = open_model(model).network.backbone
    ids, on = torch.arange(3, 20), (torch.device("cpu"), torch.float32)
    with torch.no_grad():
        memory = backbone.encode(ids, self_layout([17], causal=False).to(*on))
        layouts = self_layout([7], causal=True).to(*on), memory, cross_layout([7], [0], [17]).to(*on)
        logits = backbone.head(backbone.decode(ids[:7], *layouts))
    torch.testing.assert_close(memory, theirs["memory"][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, theirs["logits"][0], atol=1e-5, rtol=1e-5)


def test_a_bad_input_is_one_line(run: Path, model: Path) -> None:
    done = d2tv("export", run, model)
    assert done.returncode == 2
    assert done.stderr == f"error: {model} is not empty: name a new directory to export to\n"
