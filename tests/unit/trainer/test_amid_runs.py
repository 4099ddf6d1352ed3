"""AMID in a run: its student is what is exported, evaluated and summarized with; what its recipes refuse."""

import json
from pathlib import Path

import pytest
import torch
from transformers import MT5ForConditionalGeneration

from launcher.cli import main
from models.network import Network
from models.objectives.amid_config import AmidConfig
from models.objectives.amid_summary import text_alone
from models.synthetic import EOS_ID, PAD_ID, tiny_config
from shards.errors import InputError
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.checkpoints import write_checkpoint
from tests.support.tiny import tiny_overrides
from trainer.network import build_network
from trainer.plan import with_labels
from trainer.recipe import Recipe, load_recipe
from trainer.references import check_references, find_references
from trainer.trained import load_references, open_model


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
    read = stock.state_dict()
    assert wanted.keys() <= read.keys()
    assert all(torch.equal(read[key], tensor) for key, tensor in wanted.items())
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


def test_the_student_can_be_another_runs_reference(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """A run is named by its first product, which has no vision."""
    run = tmp_path / "run"
    write_checkpoint(recipe_of("amid_summary", tiny_corpus, run), tiny_corpus)
    assert main(["export", str(run), str(tmp_path / "student")]) == 0
    for model in (run, tmp_path / "student"):
        words = [*tiny_overrides(tiny_corpus.directory, tmp_path / "next"), "references.pretrained.initialises=true"]
        words = [word for word in words if not word.startswith("objective.alpha_steps")]
        recipe = load_recipe("without_vision", [*words, f"references.pretrained.model={model}"])
        references = find_references(recipe)
        tokenizer = open_tokenizer(tiny_corpus.directory / "tokenizer")
        check_references(references, recipe, tiny_corpus, tokenizer)
        [network] = load_references(references, tokenizer).values()
        assert network.vision is None
        build_network(recipe, tokenizer, {"pretrained": network})


def test_the_student_shares_the_backbone_of_the_teacher() -> None:
    """None is read a second time, nor given the rows of its new words again."""
    network = Network(tiny_config(), 50, PAD_ID, EOS_ID)
    student = text_alone(network)
    assert student.backbone is network.backbone
    assert (student.vision, student.fusion) == (None, None)
    assert network.vision is not None
    assert (student.config.vision.enabled, network.config.vision.enabled) == (False, True)


def test_a_run_without_writing_is_not_summarized_with(
    labelled_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = with_labels(recipe_of("amid", labelled_corpus, tmp_path / "run"), labelled_corpus)
    write_checkpoint(recipe, labelled_corpus)
    (tmp_path / "text.txt").write_text("sun moon star")
    assert main(["summarize", str(tmp_path / "run"), "--to", "en", str(tmp_path / "text.txt")]) == 2
    assert "was trained by objective amid, which trains no writing: name another run" in capsys.readouterr().err


def test_a_checkpoint_holds_the_students_weights_once(tiny_corpus: Corpus, tmp_path: Path) -> None:
    _, objective = write_checkpoint(recipe_of("amid_summary", tiny_corpus, tmp_path / "run"), tiny_corpus)
    assert all(name.startswith(("network.", "distillation.")) for name in objective.state_dict())


def test_classes_are_the_groups_of_labels_or_the_labels() -> None:
    labels = ("Animals / bird", "Animals / bug", "Food / drink", "Symbols")
    groups, whole = AmidConfig(labels=labels), AmidConfig(labels=labels, level="label")
    new = [*labels[1:], "Animals / fish", "Flags"]
    assert groups.class_names == ("Animals", "Food", "Symbols")
    assert groups.number_labels(new) == {"Animals / bug": 0, "Animals / fish": 0, "Food / drink": 1, "Symbols": 2}
    assert whole.class_names == labels
    assert whole.number_labels(new) == {"Animals / bug": 1, "Food / drink": 2, "Symbols": 3}
    groups.check_held_out({"Animals / fish"}, "test")
    with pytest.raises(InputError, match=r"test has examples labelled 'Flags', and the network is trained on 3 others"):
        groups.check_held_out({"Animals / fish", "Flags"}, "test")
    with pytest.raises(InputError, match=r"the labels of here are all of one class, 'a': objective amid wants two"):
        AmidConfig().with_labels({"a / x", "a / y"}, (), "here")
    with pytest.raises(InputError, match=r"here trains on 0: set corpus\.path"):
        AmidConfig(labels=("a", "b")).with_labels((), (), "here")


@pytest.mark.parametrize(
    ("recipe", "words", "expected"),
    [
        ("amid", ["network.vision.enabled=false"], r"objective amid has a teacher that sees: set network\.vision"),
        (
            "amid",
            ["objective.labels=[a / b, a / c]"],
            r"objective\.labels are all of one class, 'a': objective amid wants two",
        ),
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
