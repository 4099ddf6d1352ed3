"""From published files to accuracies: prepare, train, evaluate, each by its command."""

import json
from pathlib import Path

import pytest

from launcher.cli import main
from shards.format.index import open_corpus
from tests.support.classifying import words_for
from tests.support.iglue_tree import IglueTree
from tests.support.launch import Training
from trainer.telemetry.metrics import read_metrics

CHANGED = ("network.vision.feature_size=2048", "training.steps=12", "evaluation.examples_per_kind=")


@pytest.mark.long
def test_xvnli_from_published_files_to_accuracies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, out, run = IglueTree(tmp_path / "data").xvnli(train=24, test=6), tmp_path / "xvnli", tmp_path / "run"
    assert main(["prepare", "xvnli", "--data", str(files), "--out", str(out), "--vocab-size", "330"]) == 0
    words = words_for(open_corpus(out), run, *CHANGED)
    with Training(run, ["--recipe", "rc3_classification", *words], ranks=1) as training:
        assert training.wait() == 0, training.output
        assert "classification of xvnli into 3 labels, step 12" in training.output
    report = json.loads((run / "evaluation" / "test.json").read_text())
    assert report["classification"]["means"].keys() == {"trained", "zero_shot"}
    assert {name: of["examples"] for name, of in report["classification"]["by_language"].items()} == {
        "arabic": 6,
        "english": 6,
        "french": 6,
    }
    validated = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "validation"]
    assert 0 <= validated[-1]["held_out_accuracy"] <= 1

    # Of the published files, and of another corpus, which has a place of its own.
    (files / "README.md").write_text("XVNLI")
    with open(files / "annotations/fr/test.jsonl", "a") as lines:
        lines.write("{\n")
    assert main(["evaluate", str(run), "--task", "xvnli", "--data", str(files)]) == 0
    shown = capsys.readouterr().out
    assert "1 problems in the input\n  broken line         1  annotations/fr/test.jsonl:7: is not JSON" in shown
    assert "classification of xvnli into 3 labels" in shown
    [other] = list(run.glob("evaluation/*/test.json"))
    again = json.loads(other.read_text())
    assert again["classification"]["by_language"] == report["classification"]["by_language"]
    assert again["corpus"] != report["corpus"]
    assert main(["evaluate", str(run), "--task", "xvnli", "--data", str(out)]) == 0
    assert main(["evaluate", str(run), "--task", "xvnli", "--data", str(out), f"corpus.path={out}"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["compare", f"a={run}", f"b={run}"]) == 2
    assert f"{run} has an evaluation of test without a table of predictions" in capsys.readouterr().err

    # MaRVL's labels are none of XVNLI's.
    marvl = IglueTree(tmp_path / "marvl").marvl()
    assert main(["evaluate", str(run), "--task", "marvl", "--data", str(marvl)]) == 2
    assert (
        "test of the corpus marvl has examples labelled 'false', and the network is trained" in capsys.readouterr().err
    )
    assert main(["evaluate", str(run), "--task", "xgqa", "--data", str(out)]) == 2
    assert "is a corpus of xvnli: name one of xgqa with --data" in capsys.readouterr().err
