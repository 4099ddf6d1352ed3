"""Labels from a corpus to a recipe, a checkpoint and an evaluation."""

import json
from pathlib import Path

import pytest
import torch

from launcher.cli import main
from models.objectives.classification import Classification
from shards.batch.reader import Reader
from shards.errors import InputError
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.checkpoints import write_checkpoint
from tests.support.classifying import words_for
from tests.support.tiny import LABELS, make_corpus
from trainer.assemble import build_evaluator
from trainer.ds_config import read_saved_ds_config
from trainer.evaluation.heldout import in_batches
from trainer.plan import with_labels
from trainer.ranks import Ranks
from trainer.recipe import Recipe, load_recipe
from trainer.trained import trained_product
from trainer.verdicts import check_same_recipe


def recipe_in(run: Path, corpus: Corpus, *more: str) -> Recipe:
    return with_labels(load_recipe("rc3_classification", words_for(corpus, run, *more)), corpus)


def test_a_recipe_takes_its_labels_from_the_corpus(
    labelled_corpus: Corpus, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    words = words_for(labelled_corpus, tmp_path / "run")
    given = load_recipe("rc3_classification", words)
    assert given.objective.settings().model_dump()["labels"] is None
    recipe = with_labels(given, labelled_corpus)
    assert recipe.objective.settings().class_names == LABELS
    checkpoint, objective = write_checkpoint(recipe, labelled_corpus)
    assert isinstance(objective, Classification)
    config = read_saved_ds_config(checkpoint)
    check_same_recipe(recipe, config, checkpoint)
    check_same_recipe(given, config, checkpoint)  # of the same corpus, as a study asks
    others = load_recipe("rc3_classification", [*words, "objective.labels=a,b"])
    with pytest.raises(InputError, match=r"was begun with another objective\.labels"):
        check_same_recipe(others, config, checkpoint)
    with pytest.raises(InputError, match=r"trains on the label 'animal', which objective\.labels lacks"):
        with_labels(others, labelled_corpus)
    with pytest.raises(InputError, match=r"trains on 0: set corpus\.path to a corpus with labels"):
        with_labels(given, tiny_corpus)
    plain = load_recipe("d2tv")
    assert with_labels(plain, labelled_corpus) == plain


def test_accuracy_is_counted_by_language(
    labelled_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compare with the choice of each example by itself."""
    corpus, run = labelled_corpus, tmp_path / "run"
    recipe = recipe_in(run, corpus, "evaluation.examples_per_kind=")
    checkpoint, _ = write_checkpoint(recipe, corpus)
    tokenizer = open_tokenizer(corpus.directory / "tokenizer")
    classifier = trained_product(recipe, tokenizer, checkpoint).objective
    assert isinstance(classifier, Classification)
    ranks = Ranks(rank=0, local_rank=0, world_size=1)
    evaluator = build_evaluator(recipe, corpus, tokenizer, ranks, torch.device("cpu"))
    found: dict[str, list[bool]] = {}
    reader = Reader(corpus)
    groups = evaluator.choose("test")
    for batch, row in zip(in_batches(groups, evaluator.collator(()), 1), groups.target[:, 0].tolist(), strict=True):
        article = reader.article(row)
        right = LABELS[int(classifier.classify(batch))] == article.label
        found.setdefault(article.language, []).append(right)
    evaluator.reader.close()
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "classification of tiny into 3 labels, step 6" in shown
    report = json.loads((run / "evaluation" / "test.json").read_text())
    of = report["classification"]
    assert {language: (each["examples"], each["right"]) for language, each in of["by_language"].items()} == {
        language: (len(right), sum(right)) for language, right in found.items()
    }
    accuracy = {language: 100 * sum(right) / len(right) for language, right in found.items()}
    assert of["means"]["trained"]["accuracy"] == pytest.approx(accuracy["english"])
    others = [value for language, value in accuracy.items() if language != "english"]
    assert of["means"]["zero_shot"] == {
        "languages": 3,
        "accuracy": pytest.approx(sum(others) / 3),
        "majority": pytest.approx(sum(of["by_language"][name]["majority"] for name in found if name != "english") / 3),
    }
    english = of["by_language"]["english"]
    labels = [reader.article(row).label for row in groups.target[:, 0].tolist()]
    of_english = [
        label
        for label, row in zip(labels, groups.target[:, 0], strict=True)
        if reader.article(row).language == "english"
    ]
    assert english["majority"] == 100 * max(map(of_english.count, LABELS)) / len(of_english)
    assert of["counts"] == {
        "examples": sum(map(len, found.values())),
        "right": sum(map(sum, found.values())),
        "outside": 0,
        "unlabelled": 0,
        "unreadable": 0,
    }


def test_held_out_labels_that_are_no_class(
    labelled_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, run = labelled_corpus, tmp_path / "run"
    known = ("objective.labels=animal,thing", "objective.open_labels=true")
    recipe = load_recipe("rc3_classification", words_for(corpus, run, *known, "evaluation.examples_per_kind="))
    write_checkpoint(recipe, corpus)
    assert main(["evaluate", str(run)]) == 0
    report = json.loads((run / "evaluation" / "test.json").read_text())["classification"]
    outside = report["counts"]["outside"]
    assert outside > 0
    assert report["counts"]["right"] <= report["counts"]["examples"] - outside
    assert f"{outside} examples have a label that training did not know, and count as wrong" in capsys.readouterr().out


def test_what_cannot_be_classified_is_refused_in_one_line(
    labelled_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make_corpus(tmp_path / "plain")
    run = tmp_path / "run"
    write_checkpoint(recipe_in(run, labelled_corpus), plain)  # as if it had been trained on that
    with pytest.raises(InputError, match=r"objective\.labels has 'animal' twice: give each class once"):
        load_recipe("rc3_classification", words_for(labelled_corpus, run, "objective.labels=animal,thing,animal"))
    cases = {
        f"corpus.path={plain.directory}": "wants labels, but test of the corpus tiny has none: set corpus.path",
        "evaluation.task=summarization": "evaluation.task=summarization wants a network of the objective",
    }
    for word, said in cases.items():
        assert main(["evaluate", str(run), word]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert main(["evaluate", str(run), "--task", "xvnli"]) == 2
    assert "--data DIR and --task xvnli or xgqa or marvl go together" in capsys.readouterr().err
