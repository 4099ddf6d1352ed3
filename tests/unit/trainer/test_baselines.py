"""What a model is compared with: LEAD, the greedy oracle, the nearest training story; by hand, and beside a run."""

import random

import numpy as np
import pytest

from shards.batch.reader import Reader, ReaderConfig
from shards.format.index import Corpus
from trainer.evaluation.baseline_names import describe_lead
from trainer.evaluation.baselines.compute import Example, compute
from trainer.evaluation.baselines.extract import lead, median_words, oracle
from trainer.evaluation.baselines.nearest import Task, nearest
from trainer.evaluation.baselines.report import against_lead, baseline_means, lead_words, losses
from trainer.evaluation.heldout import choose_examples
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.scoring.rouge import TYPES
from trainer.evaluation.scoring.score import score, score_rouge


def test_lead_is_the_document_s_own_beginning() -> None:
    assert lead("Hash, hashtag; lb, number", "english", 2) == "Hash, hashtag"
    assert lead("  one", "english", 5) == "one"
    assert lead("", "english", 3) == ""
    assert lead("主题符号、编号", "chinese_simplified", 2) == "主题符号"  # two words of the segmenter


def test_a_median_of_words_is_one_at_least() -> None:
    assert median_words("english", ["a", "a b", "a b c d"]) == 2
    assert median_words("english", ["a", "a b"]) == 2  # half a word more is one
    assert median_words("english", ["!", "?"]) == 1
    assert median_words("burmese", ["ဟက်ရှ် သင်္ကေတ"]) == 4  # its words are syllables
    assert median_words("english", []) == 1


def test_the_oracle_chooses_words_of_one_sentence_and_sentences_of_several() -> None:
    assert oracle("sign, red, hash, number", "hash sign", "english", "english") == "sign hash"
    text = "Rain fell in the north. The mayor resigned on Monday. Nobody knows why."
    assert oracle(text, "The mayor has resigned", "english", "english") == "The mayor resigned on Monday."
    assert oracle("soleil, lune", "سورج", "french", "urdu") == ""  # nothing in common
    assert oracle("any", "", "english", "english") == ""


def test_no_word_more_raises_the_oracle_s_score() -> None:
    draw = random.Random(0)
    for _ in range(20):
        words = [draw.choice("abcdefgh") * 2 for _ in range(8)]
        reference = " ".join(draw.choice("abcdefghij") * 2 for _ in range(4))
        chosen = oracle(" ".join(words), reference, "english", "english").split()
        places = iter(range(len(words)))
        taken = [next(place for place in places if words[place] == word) for word in chosen]  # in the document's order
        options = [sorted([*taken, place]) for place in range(len(words)) if place not in taken]
        texts = [" ".join(words[place] for place in option) for option in (taken, *options)]
        own, *others = (r1 + r2 for r1, r2, *_ in score_rouge([("english", reference, text) for text in texts]))
        assert max(others, default=0.0) <= own + 1e-12


def test_the_nearest_document_is_the_one_with_most_in_common_that_has_the_summary() -> None:
    training = ["red fish", "red fish swims far away from here", "red bird", "blue fish swims"]
    task = Task(
        language="english",
        documents=["red fish swims", "nothing like it"],
        wanted=[(0, 0), (0, 1), (1, 0), (0, 2)],
        training=training,
        has_TD=np.array([[True, True, True, True], [False, True, True, False], [False, False, True, False]]),
    )
    # Dice of words and pairs of words: 6/8, 10/18, 2/8, 6/10.
    assert nearest(task) == [0, 1, -1, 2]


@pytest.fixture(scope="module")
def of_tiny(tiny_corpus: Corpus) -> tuple[Corpus, Reader, list[Example]]:
    size = len(tiny_corpus.languages)
    groups = choose_examples(tiny_corpus, "test", [(s, t) for s in range(size) for t in range(size)], total=40)
    keys = tiny_corpus.story_keys()
    examples = [
        Example(number=number, story=keys[story], source=source, target=target)
        for number, (story, source, target) in enumerate(
            zip(groups.story[:, 0].tolist(), groups.source[:, 0].tolist(), groups.target[:, 0].tolist(), strict=True)
        )
    ]
    return tiny_corpus, Reader(tiny_corpus, ReaderConfig(io_threads=0)), examples


def test_baselines_are_scored_on_the_same_examples(of_tiny: tuple[Corpus, Reader, list[Example]]) -> None:
    corpus, reader, examples = of_tiny
    found = compute(corpus, reader, examples, score)
    assert set(found.rows) == {"lead", "oracle", "nearest"}
    assert set(found.words.values()) <= {2, 3}  # summaries of the tiny corpus have 2 or 3 words
    assert found.compared == found.of > 100
    training = {
        reader.article(row).summary
        for row in range(len(corpus.articles))
        if corpus.shards[corpus.articles["shard"][row]].startswith("train")
    }
    for name, rows in found.rows.items():
        assert [row.number for row in rows] == [example.number for example in examples]
        for row, example in zip(rows, examples, strict=True):
            document = reader.article(example.source)
            assert (row.source, row.reference) == (document.language, reader.article(example.target).summary)
            if name == "lead":
                assert document.text.startswith(row.prediction)
                assert len(row.prediction.split()) == found.words[row.target]
            if name == "oracle" and row.source == row.target:
                assert row.scores["rouge1"] == 100  # the summary repeats words of the document
            if name == "nearest" and row.prediction:
                assert row.prediction in training
    # The same again, and a part of it as in the whole.
    part = compute(corpus, reader, examples[:7], score, names=("nearest",))
    assert part.rows == {"nearest": found.rows["nearest"][:7]}


def prediction(number: int, target: str, **scores: float) -> Prediction:
    values = {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0} | scores
    return Prediction(
        number=number,
        story=f"s{number}",
        source="english",
        target=target,
        prediction="",
        reference="",
        language=None,
        scores=values,
    )


def test_a_model_that_loses_to_lead_is_told() -> None:
    draw = random.Random(1)
    lead_rows = [prediction(n, "english", rouge1=30 + draw.gauss(0, 3), rougeL=10) for n in range(30)]
    rows = [prediction(n, "english", rouge1=5 + draw.gauss(0, 3), rougeL=12) for n in range(30)]
    told = against_lead(rows, lead_rows)
    assert set(told) == {"mms"}
    assert told["mms"]["rouge1"]["difference"] == pytest.approx(-25, abs=3)
    assert told["mms"]["rouge1"]["p"] < 0.05
    report = {
        "by_kind": {"mms": {"rouge1": 5.0, "rouge2": 0.0, "rougeL": 12.0}},
        "baselines": {"lead": {"by_kind": {"mms": {"rouge1": 30.0, "rouge2": 0.0, "rougeL": 10.0}}}},
        "against_lead": told,
    }
    (loss,) = losses(report)["mms"]
    assert (loss.measure, loss.model, loss.lead, loss.by_chance) == ("rouge1", 5.0, 30.0, False)
    # Where it is not known whether it is chance, it is not said to be none.
    (loss,) = losses(report | {"against_lead": None})["mms"]
    assert loss.by_chance


@pytest.mark.parametrize("damage", [None, [], "x", {"lead": 3}, {"lead": {"by_kind": {"mms": []}, "words": 2}}])
def test_a_report_without_baselines_or_with_damaged_ones_has_none(damage: object) -> None:
    report = {"by_kind": {"mms": {"rouge1": 1.0}}, "baselines": damage}
    assert not any(baseline_means(report, "lead").values())
    assert not losses(report)
    assert not lead_words(report)


def test_k_is_told_by_language() -> None:
    assert describe_lead({"english": 2, "urdu": 2, "burmese": 5, "thai": 1}) == "k = 2; 1 into thai; 5 into burmese"
    assert describe_lead({}) == "k unknown"


def test_what_has_no_rouge_is_in_no_difference_from_lead() -> None:
    """A reference without a word has no score on either side: a 0 on both would hide a difference."""
    scores: list[dict[str, float | None]] = [dict.fromkeys(TYPES, 30.0), dict.fromkeys(TYPES)]
    of_lead: list[dict[str, float | None]] = [dict.fromkeys(TYPES, 10.0), dict.fromkeys(TYPES)]
    rows, lead_rows = (
        [
            Prediction(
                number=number,
                story=f"story{number}",
                source="english",
                target="english",
                prediction="",
                reference="",
                language=None,
                scores=of,
            )
            for number, of in enumerate(column)
        ]
        for column in (scores, of_lead)
    )
    assert against_lead(rows, lead_rows)["mms"]["rouge1"]["difference"] == 20.0
