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
from tests.support.tiny import LABELS, tiny_overrides
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


def test_student_and_teacher_are_judged(
    labelled_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny_overrides(labelled_corpus.directory, tmp_path / "run")
    words = [word for word in words if not word.startswith(_NOT_OURS)]
    words += ["objective.width=16", "objective.warmup_steps=1", "objective.epoch_steps=1", "training.steps=3"]
    words += ["batch.groups_per_micro_batch=2", "evaluation.examples_per_kind="]
    spec = {"recipe": "amid", "overrides": words}
    ranks = run_ranks(tmp_path / "job", "tests.distributed.tasks_job", world_size=2, spec=spec)
    assert [rank["outcome"] for rank in ranks] == ["finished", "finished"]
    run = tmp_path / "run"
    records = read_metrics(run / "metrics.jsonl")
    steps = [record for record in records if record["kind"] == "train"]
    assert steps[0]["weight_fundamental"] == 0.5
    assert steps[-1]["weight_fundamental"] != 0.5, "the discriminators' weights follow the similarities"
    [*_, validation] = [record for record in records if record["kind"] == "validation"]
    assert validation["nll"] == {}, "it trains no writing"
    assert 0 <= validation["held_out_student_accuracy"] <= 1
    report = report_in(run)
    found = report["representation"]
    assert found["left_out"]["without_image"] > 0
    assert report["examples"] == sum(of["examples"] for of in found["by_language"].values()) > 16
    rows = read_predictions(run, "test")
    assert {row.reference for row in rows} <= set(LABELS)
    for figure in ("student_accuracy", "teacher_neighbour1"):
        column, name = figure.split("_")
        of_english = [row.scores[figure] for row in rows if row.target == "english"]
        assert found["by_language"]["english"][column][name] == pytest.approx(sum(of_english) / len(of_english))
    alone = evaluated_alone(run, tmp_path / "alone")
    assert report_in(alone) == report
    assert "3 classes of tiny by text (student) and by both" in capsys.readouterr().out


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
