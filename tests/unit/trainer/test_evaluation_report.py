"""Test what an evaluation makes of its predictions: a scored row each, their means, and a table that fits a log."""

from pathlib import Path

import pytest
import torch

from shards.errors import InputError
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.tiny import tiny_overrides
from trainer.assemble import build_evaluator
from trainer.evaluation.averages import languages_found, summarise
from trainer.evaluation.baselines.compute import as_rows
from trainer.evaluation.closing_table import print_report
from trainer.evaluation.decoding import Predictions
from trainer.evaluation.heldout import choose_examples
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.resource_classes import resource_class
from trainer.evaluation.scoring.measures import MEASURES
from trainer.evaluation.scoring.score import score
from trainer.evaluation.tasks.summarization import read_pairs
from trainer.plan import check_corpus
from trainer.ranks import Ranks
from trainer.recipe import load_recipe

LANGUAGES = ("english", "french", "hindi", "urdu")
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
        written = {row["number"]: row for rows in found.read().values() for row in rows}
        examples, pairs = read_pairs(evaluator, groups, written)
        scores = score(pairs)
        predictions, measures, rouge = as_rows(examples, pairs, scores), list(scores.columns), scores.rouge
        assert rouge["profile"] == "xlsum"
        assert sum(rouge["empty_predictions"].values()) == len(rows) // 3
        return predictions, measures
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
    pairs = {(source, target): 2000 if source == "urdu" else 5 for source in LANGUAGES for target in LANGUAGES}
    report = summarise(rows, measures, pairs)
    for key, of_group in (
        ("by_kind", {"mms": [r for r in rows if r.source == r.target]}),
        ("by_source", {"urdu": [r for r in rows if r.source == "urdu"]}),
        ("by_class", {"<1000": [r for r in rows if r.source == "english"]}),
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
    assert {*report["by_class"]} == {"<1000", "1000-5000"}
    of_english = [row for row in rows if (row.source, row.target) == ("english", "english")]
    assert report["directions"]["english>english"] == {"examples": len(of_english), "train_pairs": 5}
    assert report["directions"]["urdu>english"]["train_pairs"] == 2000
    found = languages_found(rows)
    assert sum(found["english"].values()) == sum(row.target == "english" for row in rows)
    assert found["urdu"].get("unknown", 0) == sum(row.target == "urdu" and not row.prediction for row in rows)


def test_a_direction_counts_once_in_the_macro_mean() -> None:
    """By hand: three examples of one direction, one of another, and a measure that only the other has."""
    scores: list[tuple[str, dict[str, float | None]]] = [
        ("english", {"rouge1": 10.0, "novelty1": None}),
        ("english", {"rouge1": 20.0, "novelty1": None}),
        ("english", {"rouge1": 30.0, "novelty1": None}),
        ("french", {"rouge1": 60.0, "novelty1": 5.0}),
    ]
    rows = [
        Prediction(
            number=number,
            story="s",
            source=source,
            target="urdu",
            prediction="",
            reference="",
            language=None,
            scores=values,
        )
        for number, (source, values) in enumerate(scores)
    ]
    report = summarise(rows, ["rouge1", "novelty1"], {("english", "urdu"): 999, ("french", "urdu"): 5001})
    assert report["by_target"] == {"urdu": {"rouge1": 30.0, "novelty1": 5.0}}
    assert report["by_kind"].keys() == report["macro"]["by_kind"].keys() == {"mxls"}, "no kind without examples"
    assert report["macro"]["by_target"] == {"urdu": {"rouge1": 40.0, "novelty1": 5.0}}
    assert report["macro"]["by_source"] == {"english": {"rouge1": 20.0}, "french": {"rouge1": 60.0, "novelty1": 5.0}}
    assert report["macro"]["by_class"] == {"<1000": {"rouge1": 20.0}, ">5000": {"rouge1": 60.0, "novelty1": 5.0}}
    assert [resource_class(pairs) for pairs in (0, 999, 1000, 5000, 5001)] == [
        "<1000",
        "<1000",
        "1000-5000",
        "1000-5000",
        ">5000",
    ]


def test_the_closing_table_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    worst = dict.fromkeys((*MEASURES, "meaning_similarity", "lase", "bertscore", "sentence_similarity"), 100.0)
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
    assert all(head in "\n".join(lines) for head in ("wrong", "(refs.)", "LaSE", "BERTScore", "USE", "repeated"))
    assert "ROUGE (R, unicode)" in lines[0], "an earlier release's"
    without_models = dict.fromkeys(MEASURES, 12.345)
    print_report(report | {"by_kind": {"mms": without_models}}, [], Path("runs/d2tv"))
    told = capsys.readouterr().out
    assert "wrong" in told
    assert "LaSE" not in told
    assert "12.3" in told
    old = {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}
    print_report(report | {"by_kind": {"mms": old}}, [], Path("runs/d2tv"))  # of an earlier release
    assert "wrong" not in capsys.readouterr().out
    of_direction = {"stories": 50, "recall1": 0.42, "chance": 0.02, "pairs": 0.9, "others": 0.5}
    alignment = {
        **of_direction,
        "unreadable": 12,
        "directions": dict.fromkeys(map(str, range(11)), of_direction) | {"x": of_direction | {"stories": 24}},
        "matrices": {},
    }
    print_report(report | {"by_kind": {"mms": old}, "alignment": alignment}, [], Path("runs/d2tv"))
    told = "alignment: recall@1 0.42 over 12 directions, 24 to 50 stories each; chance 0.02; 12 unreadable"
    assert told in capsys.readouterr().out.splitlines()
    unscored = {
        "profile": "normalized",
        "empty_predictions": {"thai": 1200, "urdu": 3},
        "empty_references": {"french": 2},
        "no_segmenter": {
            "thai": {"references": 4, "documents": 1, "why": "its segmenter cannot be loaded: pip install pythainlp"}
        },
    }
    print_report(report | {"rouge": unscored}, [], Path("runs/d2tv"))
    told = capsys.readouterr().out
    assert "ROUGE (R, normalized)" in told
    assert "1,203 predictions without a word score 0 (thai 1,200, urdu 3)" in told
    assert "2 references without a word: their examples are in no mean (french 2)" in told
    assert "4 examples have no ROUGE, 1 no novelty: thai: its segmenter cannot be loaded: pip install pythainlp" in told


def test_models_that_score_are_looked_for_before_anything_is_trained(tiny_corpus: Corpus, tmp_path: Path) -> None:
    overrides = [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), f"evaluation.labse={tmp_path}"]
    with pytest.raises(InputError, match=r"^evaluation\.labse=\S+ has no config\.json"):
        check_corpus(load_recipe("d2tv", overrides), tiny_corpus)
