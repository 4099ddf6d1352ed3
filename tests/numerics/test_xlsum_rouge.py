"""The profile `xlsum` against what xl-sum's `multilingual_rouge_scoring` says: tokens and scores of 45 pairs in 16
languages, and its steps written once more, with OpenNMT's own tokenizer, on texts of every kind of character."""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.numerics import xlsum_reference
from tests.support.sentences import SENTENCES
from trainer.evaluation.scoring.score import score_rouge
from trainer.evaluation.scoring.tokenizers import Tokenizer

#: Made with xl-sum's code, NLTK's Snowball without its stop words, Turkish from PyStemmer, none for Bengali.
PAIRS = [
    json.loads(line) for line in Path(__file__).with_name("xlsum_rouge.jsonl").read_text(encoding="utf-8").splitlines()
]
TYPES = ("rouge1", "rouge2", "rougeL")


def tokenize(text: str, language: str) -> list[str]:
    return Tokenizer(language, "xlsum").tokenize(text)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair['language']}: {pair['reference'][:20]}")
def test_tokens_and_scores_are_xlsums(pair: dict[str, str]) -> None:
    language = pair["language"]
    assert tokenize(pair["reference"], language) == pair["reference_tokens"]
    assert tokenize(pair["prediction"], language) == pair["prediction_tokens"]
    ((*found,),) = score_rouge([(language, pair["reference"], pair["prediction"])], profile="xlsum")  # type: ignore[misc]
    assert found[:3] == pytest.approx([pair[name] for name in TYPES], rel=0, abs=1e-9)


def test_the_order_in_which_pairs_are_scored_changes_nothing() -> None:
    """NLTK's Arabic stemmer remembers a verb's suffix: كتبهم has one, after which تدعو would be cut."""
    word = "تدعو"
    assert tokenize(f"{word} كتبهم ضربهم {word}", "arabic")[::3] == [word, word]


@pytest.mark.parametrize(
    ("language", "text", "tokens"),
    [
        ("turkish", "evlerde kitaplar", ["ev", "kitap"]),
        ("portuguese", "governos anunciaram", ["govern", "anunc"]),
        ("pidgin", "tins wey 2019BBC", ["tins", "wey", "2019", "bbc"]),
        ("english", "stems of the having", ["stem", "of", "the", "have"]),  # stop words of four letters and more, too
        ("serbian_cyrillic", "Влада\u0301 је", ["влада\u0301", "је"]),
        ("igbo", "n’ọ\u0323 ( \u0301a", ["n", "ọ\u0323", "％0020\u0301", "a"]),  # OpenNMT's marked blank
        ("somali", "a■b ￭ ￨", ["a", "■", "b", "■", "│"]),  # what OpenNMT keeps for itself
    ],
)
def test_particular_texts(language: str, text: str, tokens: list[str]) -> None:
    assert tokenize(text, language) == tokens


def _characters() -> st.SearchStrategy[str]:
    """Every general category alike, and those that steps treat apart; none that the running Unicode does not know."""
    by_category: dict[str, list[str]] = {}
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category not in ("Cn", "Co", "Cs"):
            by_category.setdefault(category, []).append(chr(code))
    kinds = [st.sampled_from(characters) for characters in by_category.values()]
    return st.one_of(*kinds, st.sampled_from("a1 £ÿ中٩९一々क़👍🏽♂.\u200d\u200c\u0301\u064d\ufe0f▁￭￨İ"))


@settings(max_examples=1000, deadline=None)
@given(st.lists(_characters(), max_size=10).map("".join))
def test_languages_without_a_segmenter_are_cut_as_by_opennmt(text: str) -> None:
    opennmt = pytest.importorskip("pyonmttok", reason="pyonmttok has no wheel for this Python").Tokenizer("aggressive")
    assert tokenize(text, "igbo") == xlsum_reference.tokens(text, opennmt)


@pytest.mark.parametrize(
    "language", ["amharic", "gujarati", "korean", "sinhala", "tamil", "telugu", "vietnamese", "urdu"]
)
def test_sentences_are_cut_as_by_opennmt(language: str) -> None:
    opennmt = pytest.importorskip("pyonmttok", reason="pyonmttok has no wheel for this Python").Tokenizer("aggressive")
    text = f"{SENTENCES[language]} 2019 (£20bn) {SENTENCES[language]}"
    assert tokenize(text, language) == xlsum_reference.tokens(text, opennmt)


def _score(reference: Sequence[str], prediction: Sequence[str]) -> list[float]:
    """ROUGE-1, -2 and -L of tokens, straight from Lin (2004)."""
    found = []
    for size in (1, 2):
        grams = [
            Counter(tuple(tokens[place : place + size]) for place in range(len(tokens) - size + 1))
            for tokens in (reference, prediction)
        ]
        hits = (grams[0] & grams[1]).total()
        found.append(_f1(hits, grams[0].total(), grams[1].total()))
    table = [[0] * (len(prediction) + 1) for _ in range(len(reference) + 1)]
    for i, one in enumerate(reference):
        for j, other in enumerate(prediction):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return [*found, _f1(table[-1][-1], len(reference), len(prediction))]


def _f1(hits: int, of_reference: int, of_prediction: int) -> float:
    return 2 * hits / (of_reference + of_prediction) if hits else 0.0


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair['language']}: {pair['reference'][:20]}")
def test_the_scores_follow_from_the_tokens(pair: dict[str, str]) -> None:
    """The file's scores are of its tokens: nothing but the tokens is particular to xl-sum."""
    found = _score(pair["reference_tokens"], pair["prediction_tokens"])
    assert found == pytest.approx([pair[name] for name in TYPES], rel=0, abs=1e-9)
