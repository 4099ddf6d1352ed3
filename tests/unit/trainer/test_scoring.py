"""Scores of predictions beside ROUGE: language, length, novelty, repetition; on one core and on several the same."""

import math
import os
import sys

import pytest

from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from tests.support.sentences import SENTENCES
from trainer.evaluation.describe import describe_rouge
from trainer.evaluation.scoring import segmenters
from trainer.evaluation.scoring.identify import identify
from trainer.evaluation.scoring.measures import MEASURES, Pair, length_penalty, novelty, repetition
from trainer.evaluation.scoring.processes import map_chunks
from trainer.evaluation.scoring.rouge import rouge_in
from trainer.evaluation.scoring.score import mean_scores, score, score_rouge
from trainer.evaluation.scoring.tokenizers import segment


def pair(source: str, target: str, prediction: str, *, reference: str | None = None, document: str = "") -> Pair:
    reference = SENTENCES[target] if reference is None else reference
    return Pair(source=source, target=target, document=document, reference=reference, prediction=prediction)


@pytest.mark.parametrize("language", SENTENCES)
def test_each_language_is_told_from_its_neighbours(language: str) -> None:
    found = identify(SENTENCES[language])
    assert language in found.likeliest
    assert found.confidence_in(language) == 1
    assert not found.is_other_than(language)
    assert found.nearest(language) == language
    for other in set(LANGUAGE_CODES) - set(found.likeliest):
        assert found.is_other_than(other)
        assert found.confidence_in(other) < 1
        assert found.nearest(other) == found.likeliest[0]


@pytest.mark.parametrize(
    ("text", "likeliest"),
    [
        ("我们的国家发展得很快", {"chinese_simplified"}),
        ("我們的國家發展得很快", {"chinese_traditional"}),
        ("今天下雨", {"chinese_simplified", "chinese_traditional"}),  # all of it is in both
        ("東京都知事選挙", {"chinese_simplified", "chinese_traditional", "japanese"}),
        ("東京の知事選挙", {"japanese"}),
        ("Влада је данас усвојила нови закон о порезу", {"serbian_cyrillic"}),
        ("Vlada je danas usvojila novi zakon o porezu", {"serbian_latin"}),
        ("Hrvatska vlada je danas usvojila novi zakon o porezu", {"serbian_latin"}),
        ("Kerajaan telah meluluskan undang-undang baharu hari ini", {"indonesian"}),
        ("The government passed a new law on taxes this morning", {"english"}),
        ("Di goment don pass new law for tax dis morning, na so dem tok", {"pidgin"}),
        ("\x0bThe government\x1cpassed a new law\x85on taxes this morning", {"english"}),  # CLD2 would not read it
        ("", set()),
        ("12:34, 5.6 %", set()),
        ("👍🏽 → €", set()),
        ("BBC", set()),
        ("\ud800\x00", set()),
    ],
)
def test_what_writing_tells_and_what_it_does_not(text: str, likeliest: set[str]) -> None:
    found = identify(text)
    assert set(found.likeliest) <= likeliest
    assert bool(found.likeliest) == bool(likeliest)
    if not likeliest:
        assert found.confidence_in("english") == 0
        assert not found.is_other_than("english"), "nobody can tell"
        assert found.nearest("english") is None


def test_length_penalty_is_lases() -> None:
    assert length_penalty(10, 0) == length_penalty(10, 16) == 1
    assert length_penalty(10, 17) == pytest.approx(math.exp(1 - 17 / 16))
    assert length_penalty(10, 32) == pytest.approx(math.exp(-1))


def test_novelty_and_repetition() -> None:
    document = ["a", "b", "c", "d", "e"]
    prediction = ["a", "b", "x", "x", "a", "b"]
    # Of a b x x a b: x twice; of ab bx xx xa ab: all but ab.
    assert novelty(prediction, document) == (2 / 6, 3 / 5)
    # a, b and x a second time; ab a second time.
    assert repetition(prediction) == (pytest.approx(3 / 6), pytest.approx(1 / 5))
    assert novelty(["y"], document) == (1, None)
    assert repetition(["y"]) == (0, None)
    assert novelty([], document) == repetition([]) == (None, None)


def test_columns_of_an_evaluation() -> None:
    document = "Rivers are cold. The water in the river is cold today."
    found = score(
        [
            pair("english", "english", SENTENCES["english"], document=document),
            pair("english", "french", SENTENCES["english"], document=document),
            pair("english", "urdu", ""),
            pair("english", "thai", SENTENCES["thai"] * 4),
        ]
    )
    assert set(found.columns) == set(MEASURES)
    assert found.language == ["english", "english", None, "thai"]
    right, wrong, empty, repeated = (found.row(number) for number in range(4))
    assert right["rouge1"] == right["rougeLsum"] == right["language_confidence"] == right["length_penalty"] == 100
    assert right["wrong_language"] == right["wrong_language_reference"] == right["novelty2"] == 0
    assert wrong["rouge1"] == 0
    assert wrong["wrong_language"] == 100
    assert wrong["wrong_language_reference"] == 0
    assert wrong["language_confidence"] < 50
    assert wrong["novelty1"] < 50, "most of it is the document's"
    assert empty["rouge1"] == empty["wrong_language"] == empty["language_confidence"] == 0
    assert empty["novelty1"] is empty["repetition1"] is None
    # 5 words, 20 of them predicted: e^(1 - 20/11); a word in four is new.
    assert repeated["length_penalty"] == pytest.approx(100 * math.exp(1 - 20 / 11))
    assert repeated["repetition1"] == pytest.approx(75)
    assert repeated["rouge1"] == pytest.approx(100 * 2 * 5 / 25)


def test_what_has_no_word_is_counted_and_no_silent_0() -> None:
    found = score(
        [
            pair("english", "english", "…"),
            pair("english", "english", "words", reference="—!"),
            pair("english", "thai", "", reference=""),
            pair("english", "english", SENTENCES["english"]),
        ]
    )
    assert found.rouge == {
        "profile": "xlsum",
        "empty_predictions": {"english": 1, "thai": 1},
        "empty_references": {"english": 1, "thai": 1},
        "no_segmenter": {},
    }
    assert found.columns["rouge1"] == [0, None, None, 100]
    assert found.columns["rougeLsum"] == [0, None, None, 100]
    assert found.columns["length_penalty"][1] is None
    assert mean_scores([found.row(number) for number in range(4)])["rouge1"] == 50
    assert score_rouge([("english", "!", "a word")]) == [None]


def test_a_language_whose_segmenter_is_missing_is_told_and_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythainlp.tokenize", None)  # as where it is not installed
    segmenters._loaded.cache_clear()
    rouge_in.cache_clear()
    try:
        found = score(
            [
                pair("thai", "english", SENTENCES["english"], document=SENTENCES["thai"]),
                pair("english", "thai", SENTENCES["thai"]),
                pair("english", "burmese", SENTENCES["burmese"]),
            ]
        )
        (told,) = describe_rouge({"rouge": found.rouge})
        with pytest.raises(InputError, match=r"^thai: .*pip install pythainlp"):
            segment(SENTENCES["thai"], "thai")
    finally:
        segmenters._loaded.cache_clear()
    assert told.startswith("1 examples have no ROUGE, 1 no novelty: thai: its segmenter cannot be loaded")
    assert told.endswith("pip install pythainlp")
    assert found.columns["rouge1"] == [100, None, 100]
    assert found.columns["novelty1"][0] is None, "of a document that cannot be cut"
    assert found.columns["wrong_language"] == [0, 0, 0], "for which no words are counted"


def test_the_profile_decides_what_a_difference_is() -> None:
    triples = [("thai", "น้ำในแม่น้ำ", "นํ้าในแม่นํ้า"), ("persian", "می\u200cخواهم", "می خواهم")]
    assert [scores[0] for scores in score_rouge(triples, profile="normalized") if scores] == [1, 1]
    assert all(scores is not None and scores[0] < 0.8 for scores in score_rouge(triples, profile="xlsum"))


def test_nothing_to_score() -> None:
    found = score([])
    assert found.language == []
    assert set(found.columns) == set(MEASURES)
    assert score_rouge([]) == []


def test_processes_change_nothing_and_results_keep_their_order() -> None:
    languages = sorted(SENTENCES)
    pairs = [
        pair(
            languages[number % 7],
            target,
            " ".join(SENTENCES[target].split()[number % 3 :]),
            document=SENTENCES[languages[number % 7]] * (1 + number % 2),
        )
        for number in range(30)
        for target in languages
    ]
    calls: list[int] = []
    alone = score(pairs, processes=1)
    assert score(pairs, processes=2, after_each=lambda: calls.append(1)) == alone
    assert len(calls) > 3
    triples = [(p.target, p.reference, p.prediction) for p in pairs]
    ours = score_rouge(triples, processes=2)
    assert [None if scores is None else 100 * scores[0] for scores in ours] == alone.columns["rouge1"]


def doubled(number: int) -> int:
    print("what a library prints is no result")
    return 2 * number


def refused(number: int) -> int:
    raise InputError(f"not {number}")


def gone(number: int) -> int:
    os._exit(3)


def test_a_library_that_prints_does_no_harm() -> None:
    assert map_chunks(doubled, range(40), 3) == list(range(0, 80, 2))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_process_is_raised_here(processes: int) -> None:
    with pytest.raises(InputError, match=r"^not "):
        map_chunks(refused, range(4), processes)


def test_a_process_that_dies_is_told_of() -> None:
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        map_chunks(gone, range(4), 2)
