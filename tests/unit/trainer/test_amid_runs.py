"""AMID in a run: its student is what is exported, evaluated and summarized with; what its recipes refuse."""

import json
from pathlib import Path

import pytest
import torch
from transformers import MT5ForConditionalGeneration

from launcher.cli import main
from models.objectives.amid_config import AmidConfig
from shards.errors import InputError
from shards.format.index import Corpus
from tests.support.checkpoints import write_checkpoint
from tests.support.tiny import tiny_overrides
from trainer.recipe import Recipe, load_recipe
from trainer.trained import open_model


def recipe_of(name: str, corpus: Corpus, run: Path, *more: str) -> Recipe:
    others = ("objective.alpha_steps", "objective.label_smoothing")
    words = [word for word in tiny_overrides(corpus.directory, run) if not word.startswith(others)]
    return load_recipe(name, [*words, "objective.width=16", *more])


def test_a_summarizer_that_has_seen_is_exported_as_a_text_model(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _, objective = write_checkpoint(recipe_of("amid_summary", tiny_corpus, run), tiny_corpus)
    assert main(["export", str(run), str(tmp_path / "student")]) == 0
    assert main(["export", str(run), str(tmp_path / "teacher"), "--product", "teacher"]) == 0
    assert not (tmp_path / "student" / "vision.safetensors").exists()
    assert (tmp_path / "teacher" / "vision.safetensors").exists()
    stock = MT5ForConditionalGeneration.from_pretrained(tmp_path / "student")
    wanted = objective.products()["student"].backbone.model.state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in stock.state_dict().items() if key in wanted)
    opened = open_model(tmp_path / "student")
    assert (opened.product, opened.network.vision) == ("student", None)
    words = ["--directions", "mms"]
    assert main(["evaluate", str(run), *words]) == 0
    assert main(["evaluate", str(run), *words, "--product", "teacher"]) == 0
    places = sorted(run.rglob("test.json"), key=lambda path: len(path.parts))
    student, teacher = (json.loads(path.read_text()) for path in places)
    assert (student["product"], teacher["product"]) == ("student", "teacher")
    assert "without_images" not in student, "it looks at none"
    assert "without_images" in teacher


def test_a_checkpoint_holds_the_students_weights_once(tiny_corpus: Corpus, tmp_path: Path) -> None:
    _, objective = write_checkpoint(recipe_of("amid_summary", tiny_corpus, tmp_path / "run"), tiny_corpus)
    assert not any(name.startswith("student") for name in objective.state_dict())


def test_classes_are_the_groups_of_labels_or_the_labels() -> None:
    labels = ("Animals / bird", "Animals / bug", "Food / drink", "Symbols")
    groups, whole = AmidConfig(labels=labels), AmidConfig(labels=labels, level="label")
    assert (groups.class_names, groups.class_of_label) == (("Animals", "Food", "Symbols"), (0, 0, 1, 2))
    assert (whole.class_names, whole.class_of_label) == (labels, (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("recipe", "words", "expected"),
    [
        ("amid", ["network.vision.enabled=false"], r"objective amid has a teacher that sees: set network\.vision"),
        ("amid", ["objective.labels=[a / b, a / c]"], r"are all of one class: set objective\.level to label"),
        ("amid", ["objective.labels=[a, b, a]"], r"has 'a' twice: give each class once"),
        ("amid", ["evaluation.task=summarization"], r"this one is of amid: choose one of representation"),
        ("amid", ["checkpoint.keep_best=mms"], r"trains no writing: set it to null"),
        ("amid_summary", ["network.fusion.kind=early"], r"reads what its teacher's encoder says of the text alone"),
        ("amid_summary", ["objective.student=0"], r"objective\.student"),
        ("amid_summary", ["evaluation.task=representation"], r"this one is of amid_summary: choose one of"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tiny_corpus: Corpus, tmp_path: Path, recipe: str, words: list[str], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        recipe_of(recipe, tiny_corpus, tmp_path / "run", *words)
