"""What an evaluation makes of its predictions: a scored row each, their means, and a table that fits a log."""

from pathlib import Path

import pytest
import torch

from shards.errors import InputError
from shards.index import Corpus
from shards.tokenizer import open_tokenizer
from tests.tiny import tiny_overrides
from trainer.build import build_evaluator
from trainer.distributed import Ranks
from trainer.evaluation.decoding import Predictions
from trainer.evaluation.evaluate import print_report, summarise
from trainer.evaluation.heldout import choose_examples
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.scoring.measures import MEASURES
from trainer.plan import check_corpus
from trainer.recipe import load_recipe

ALONE = Ranks(rank=0, local_rank=0, world_size=1)


@pytest.fixture
def scored(tiny_corpus: Corpus, tmp_path: Path) -> tuple[list[Prediction], list[str]]:
    """Of two languages' examples: the reference itself, another language's words, and nothing at all, in turn."""
    recipe = load_recipe("d2tv", tiny_overrides(tiny_corpus.directory, tmp_path / "run"))
    tokenizer = open_tokenizer(tiny_corpus.directory / "tokenizer")
    evaluator = build_evaluator(recipe, tiny_corpus, tokenizer, ALONE, torch.device("cpu"))
    english, urdu = (tiny_corpus.languages.index(name) for name in ("english", "urdu"))
    directions = [(english, english), (english, urdu), (urdu, english)]
    groups = choose_examples(tiny_corpus, "test", directions, total=9)
    found = Predictions(tmp_path / "parts", groups, ())
    found.begin()
    rows = [
        {"number": number, "prediction": (evaluator.reader.article(int(target)).summary, "le soleil et la lune", "")[i]}
        for i, number, target in zip([0, 1, 2] * 3, groups.number.tolist(), groups.target[:, 0], strict=False)
    ]
    found.add(0, 0, rows)
    try:
        return evaluator._score(groups, found)
    finally:
        evaluator.reader.close()


def test_rows_have_every_measure_and_means_are_theirs(scored: tuple[list[Prediction], list[str]]) -> None:
    rows, measures = scored
    assert measures == list(MEASURES)
    assert len(rows) > 3
    for number, row in enumerate(rows):
        scores = row.scores
        assert tuple(scores) == MEASURES
        assert row.number == number
        if number % 3 == 0:
            assert row.prediction == row.reference
            assert scores["rouge1"] == scores["rougeLsum"] == 100
        elif number % 3 == 1:
            assert row.language == "french"
            assert scores["wrong_language"] == 100
        else:
            assert row.language is scores["novelty1"] is None
            assert scores["rougeL"] == scores["wrong_language"] == 0
    report = summarise(rows, measures)
    for key, of_group in (
        ("by_kind", {"mms": [r for r in rows if r.source == r.target]}),
        ("by_target", {"urdu": [r for r in rows if r.target == "urdu"]}),
        ("by_direction", {"urdu>english": [r for r in rows if (r.source, r.target) == ("urdu", "english")]}),
    ):
        for name, group in of_group.items():
            assert group
            assert report[key][name]["wrong_language"] == pytest.approx(
                sum(row.scores["wrong_language"] or 0 for row in group) / len(group)
            )
            told = [value for row in group if (value := row.scores["novelty1"]) is not None]
            assert report[key][name].get("novelty1") == (pytest.approx(sum(told) / len(told)) if told else None)
    assert {*report["by_kind"]} == {"mms", "mxls"}


def test_the_closing_table_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    worst = dict.fromkeys(MEASURES, 100.0)
    nll = {"model": 10.123, "unigram": 10.456, "better_by": 0.1234}
    report = {
        "split": "test",
        "step": 1_000_000,
        "examples": 1_707_068,
        "unreadable": 0,
        "nll": {"mms": nll, "mxls": nll},
        "by_kind": {"mms": worst, "mxls": worst},
    }
    print_report(report, [{"mms": 10.1, "mxls": 10.2}, {"mms": 9.1, "mxls": 9.2}], Path("runs/d2tv"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "in another language: MMS 100.0%, MXLS 100.0% (references: 100.0%, 100.0%)" in lines
    old = {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}
    print_report(report | {"by_kind": {"mms": old}}, [], Path("runs/d2tv"))  # of an earlier release
    assert "another language" not in capsys.readouterr().out


def test_models_that_score_are_looked_for_before_anything_is_trained(tiny_corpus: Corpus, tmp_path: Path) -> None:
    overrides = [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), f"evaluation.labse={tmp_path}"]
    with pytest.raises(InputError, match=r"^evaluation\.labse=\S+ has no config\.json"):
        check_corpus(load_recipe("d2tv", overrides), tiny_corpus)
