"""Fine-tune a pre-trained network on two ranks, evaluate it there, and again alone by the command line."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from shards.format.index import Corpus
from tests.support.checkpoints import write_checkpoint
from tests.support.harness import run_ranks
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import whole_checkpoints
from trainer.evaluation.predictions import read_predictions
from trainer.recipe import load_recipe
from trainer.references import REFERENCES
from trainer.telemetry.metrics import read_metrics

_NOT_OURS = ("objective.alpha_steps=", "objective.label_smoothing=")


@pytest.fixture(scope="module")
def pretrained(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `rc3_roi`."""
    run = tmp_path_factory.mktemp("rc3") / "run"
    words = [word for word in tiny_overrides(tiny_corpus.directory, run) if not word.startswith(_NOT_OURS)]
    write_checkpoint(load_recipe("rc3_roi", words), tiny_corpus)
    return run


def fine_tuned(recipe: str, folder: Path, corpus: Corpus, pretrained: Path, *more: str) -> Path:
    """Return the run of three steps."""
    words = [word for word in tiny_overrides(corpus.directory, folder / "run") if not word.startswith(_NOT_OURS)]
    words += [f"references.pretrained.model={pretrained}", "batch.groups_per_micro_batch=2", "training.steps=3", *more]
    ranks = run_ranks(
        folder / "job", "tests.distributed.tasks_job", world_size=2, spec={"recipe": recipe, "overrides": words}
    )
    assert [rank["outcome"] for rank in ranks] == ["finished", "finished"]
    return folder / "run"


def report_in(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "evaluation" / "test.json").read_text(encoding="utf-8")))


def evaluated_alone(run: Path, copy: Path) -> Path:
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "evaluation")
    assert main(["evaluate", str(copy), f"run={copy}"]) == 0
    return copy


def test_retrieval_is_fine_tuned_on_english_alone(
    tiny_corpus: Corpus, tmp_path: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fine_tuned("rc3_retrieval", tmp_path, tiny_corpus, pretrained)
    [checkpoint, *_] = whole_checkpoints(run / "checkpoints")
    assert json.loads((checkpoint / REFERENCES).read_text())["pretrained"]["path"].startswith(str(pretrained))
    records = read_metrics(run / "metrics.jsonl")
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    assert all(of.keys() == {"total", "image_to_text", "text_to_image"} for of in losses)
    assert losses[0]["image_to_text"] == pytest.approx(math.log(4), rel=0.5), "a choice among a group of four"
    [*_, validation] = [record for record in records if record["kind"] == "validation"]
    assert validation["nll"] == {}, "it trains no writing"
    assert 0 <= validation["held_out_recall1"] <= 1
    report = report_in(run)
    assert report["retrieval"]["trained"] == ["english"]
    assert report["retrieval"]["means"]["zero_shot"]["languages"] == 3
    alone = report_in(evaluated_alone(run, tmp_path / "alone"))
    assert alone == report
    assert "zero-shot (3)" in capsys.readouterr().out


def test_classification_is_fine_tuned_on_english_alone(
    labelled_corpus: Corpus, tmp_path: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("corpus.tokenizer=", "evaluation.examples_per_kind=")
    run = fine_tuned("rc3_classification", tmp_path, labelled_corpus, pretrained, *more)
    records = read_metrics(run / "metrics.jsonl")
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    assert losses[0]["label"] == pytest.approx(math.log(3), rel=0.7), "a choice among three labels"
    [*_, validation] = [record for record in records if record["kind"] == "validation"]
    assert validation["nll"] == {}, "it trains no writing"
    assert 0 <= validation["held_out_accuracy"] <= 1
    report = report_in(run)
    assert report["classification"]["trained"] == ["english"]
    assert report["classification"]["means"]["zero_shot"]["languages"] == 3
    assert report["classification"]["counts"]["examples"] == report["examples"] > 16
    assert report_in(evaluated_alone(run, tmp_path / "alone")) == report
    assert "zero-shot (3)" in capsys.readouterr().out


def test_translation_is_fine_tuned(tiny_corpus: Corpus, tmp_path: Path, pretrained: Path) -> None:
    run = fine_tuned("rc3_translation", tmp_path, tiny_corpus, pretrained)
    report = report_in(run)
    assert report["settings"]["task"] == "translation"
    assert report["translation"].keys() == {"mxls", "signatures"}
    alone = evaluated_alone(run, tmp_path / "alone")
    found = report_in(alone)
    assert found["translation"] == report["translation"]
    assert found["nll"]["mxls"]["model"] == pytest.approx(report["nll"]["mxls"]["model"])
    assert [row.prediction for row in read_predictions(alone, "test")] == [
        row.prediction for row in read_predictions(run, "test")
    ]
    [*_, validation] = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "validation"]
    assert validation["nll"]["mxls"] > 0
