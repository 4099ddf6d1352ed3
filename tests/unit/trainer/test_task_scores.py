"""Scores of the tasks beside summarization: recall by hand, BLEU and chrF as sacrebleu computes them."""

from typing import get_args

import numpy as np
import pytest
import torch
from sacrebleu import corpus_bleu, corpus_chrf, sentence_chrf

from shards.languages import LANGUAGE_CODES
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.neighbours import found_among_neighbours
from trainer.evaluation.scoring.recall import chance, recalls
from trainer.evaluation.scoring.translation import TOKENIZERS, corpus_scores, sentence_scores
from trainer.evaluation.tasks import TASKS
from trainer.evaluation.tasks.retrieval import Scored, retrieval_report
from trainer.recipe.evaluation import EvaluationSection


def test_every_task_of_a_recipe_is_there() -> None:
    assert TASKS.keys() == set(get_args(EvaluationSection.model_fields["task"].annotation))


def test_recall_by_hand() -> None:
    """Of six queries one finds its own first, one second, one third, one last, and two have ties."""
    scores = np.zeros((6, 6))
    scores[0] = [5, 4, 3, 2, 1, 0]
    scores[1] = [5, 4, 3, 2, 1, 0]
    scores[2] = [5, 4, 3, 2, 1, 0]
    scores[3] = [5, 4, 3, -2, 1, 0]
    scores[4] = [1, 0, 0, 0, 1, 0]
    scores[5] = 1
    assert recalls(scores) == pytest.approx({"recall1": 100 / 6, "recall5": 400 / 6, "recall10": 100})
    nothing = np.full((6, 6), np.nan)
    assert recalls(nothing) == {"recall1": 0, "recall5": 0, "recall10": 100}, "no number finds nothing"
    assert chance(20) == {"recall1": 5, "recall5": 25, "recall10": 50}
    assert chance(4)["recall5"] == 100


def test_neighbours_by_hand() -> None:
    """A cosine takes no notice of lengths; of equally near ones the first come first; a query may be nowhere."""
    gallery = np.array([[1.0, 0], [9, 1], [0, 2], [0, 0.1], [-1, 0], [-1, -0.1]])
    classes = np.array([0, 1, 2, 2, 3, 4])
    queries, own = np.array([[5.0, 0], [1, 0.01], [0, 1], [0.5, 0], [0, 0]]), np.array([0, 1, 2, 3, 1])
    found = found_among_neighbours(queries, own, gallery, classes)
    assert found[:, 0].tolist() == [True, False, True, False, False]
    assert found[:, 1].tolist() == [True, True, True, False, True], "the farthest of six is left out"
    few = found_among_neighbours(queries, own, gallery[:2], classes[:2])
    assert few[:, 1].tolist() == [True, True, False, False, True]
    assert not found_among_neighbours(queries, own, gallery[:0], classes[:0]).any()
    unknown = np.full(5, -1)
    assert not found_among_neighbours(queries, unknown, gallery, np.full(6, -1)).any(), "no class is none of its own"


def test_languages_that_were_trained_on_stand_apart() -> None:
    best, worst = torch.eye(12), -torch.eye(12)
    found = {
        "english": Scored(score_NN=best, rows=range(12), left_out={}),
        "french": Scored(score_NN=worst, rows=range(12), left_out={}),
        "urdu": Scored(score_NN=best[:3, :3], rows=range(3), left_out={}),
        "hindi": Scored(score_NN=best[:1, :1], rows=range(1), left_out={}),
    }
    report = retrieval_report(found, {"english", "welsh"})
    assert report["trained"] == ["english"]
    assert list(report["by_language"]) == ["english", "french", "urdu"], "one story is no choice"
    assert report["by_language"]["english"]["image_to_text"] == {"recall1": 100, "recall5": 100, "recall10": 100}
    assert report["by_language"]["french"]["mean"] == {"recall1": 0, "recall5": 0, "recall10": 0}
    assert report["means"]["zero_shot"]["languages"] == 2
    assert report["means"]["zero_shot"]["text_to_image"] == {"recall1": 50, "recall5": 50, "recall10": 50}
    assert report["means"]["zero_shot"]["chance"]["recall1"] == pytest.approx((100 / 12 + 100 / 3) / 2)
    assert "trained" not in retrieval_report(found, set())["means"]


def pair(prediction: str, reference: str, target: str = "english", source: str = "french") -> Pair:
    return Pair(source=source, target=target, document="", reference=reference, prediction=prediction)


def test_translations_are_scored_by_sacrebleu() -> None:
    pairs = [
        pair("red heart", "red heart"),
        pair("a cat's face", "cat with a face"),
        pair("", ""),
        pair("赤い心", "赤いハート", "japanese"),
        pair("coeur", "cœur", "french"),
    ]
    calls: list[None] = []
    scores = sentence_scores(pairs, lambda: calls.append(None))
    assert scores["bleu"][0] == pytest.approx(100)
    assert scores["chrf"][1] == pytest.approx(sentence_chrf("a cat's face", ["cat with a face"]).score)
    assert scores["bleu"][2] is scores["chrf"][2] is None
    assert calls
    report = corpus_scores(pairs)
    english, japanese = (report["mxls"]["by_target"][name] for name in ("english", "japanese"))
    texts = ["red heart", "a cat's face"], [["red heart", "cat with a face"]]
    assert english["examples"] == 2
    assert english["bleu"] == pytest.approx(corpus_bleu(*texts, tokenize="intl", use_effective_order=True).score)
    assert english["chrf"] == pytest.approx(corpus_chrf(*texts).score)
    apart = ["赤 い 心"], [["赤 い ハ ー ト"]]
    assert japanese["bleu"] == pytest.approx(corpus_bleu(*apart, tokenize="none", use_effective_order=True).score)
    assert report["mxls"]["bleu"] == pytest.approx((english["bleu"] + japanese["bleu"]) / 2)
    assert report["mms"]["by_target"].keys() == {"french"}
    assert report["signatures"]["bleu char"].startswith("nrefs:1|case:mixed|eff:yes|tok:char|")
    assert report["signatures"].keys() == {"bleu char", "bleu intl", "chrf"}


def test_tokenizers_are_of_known_languages() -> None:
    assert TOKENIZERS.keys() <= set(LANGUAGE_CODES)
