"""Multilingual ROUGE: tokens and scores in every script against a table made by hand, and English against
`rouge-score`'s own tokenizer. xl-sum's tokens: tests/numerics/test_xlsum_rouge.py."""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from shards.languages import LANGUAGE_CODES
from tests.support.sentences import SENTENCES
from trainer.evaluation.scoring.rouge import ROUGE, TYPES, Rouge
from trainer.evaluation.scoring.score import mean_scores, score_rouge
from trainer.evaluation.scoring.text import sentences
from trainer.evaluation.scoring.tokenizers import LineTokenizer, Tokenizer, burmese_syllables
from trainer.recipe.profiles import PROFILES, Profile

GOLDEN = yaml.safe_load(Path(__file__).with_name("multilingual_rouge.yaml").read_text(encoding="utf-8"))

SEGMENTED = ("chinese_simplified", "chinese_traditional", "japanese", "thai")
STEMMED = ("arabic", "english", "french", "hindi", "portuguese", "russian", "spanish", "turkish")
TURKIC = ("azerbaijani", "turkish")


def tokenize(text: str, language: str = "english", profile: Profile = "normalized", *, stem: bool = True) -> list[str]:
    return Tokenizer(language, profile, stem=stem).tokenize(text)


def scores(language: str, reference: str, prediction: str, profile: Profile = "normalized") -> tuple[float, ...]:
    found = Rouge(language, profile).score(reference, prediction)
    assert found is not None
    return found


def tokens_by_line(text: str, language: str, profile: Profile) -> list[list[str]]:
    """The tokens that ROUGE-Lsum compares."""
    tokenizer = LineTokenizer(language, profile)
    found = [tokenizer.tokenize(line) for line in tokenizer.split(text).split("\n")]
    return [tokens for tokens in found if tokens]


def test_every_language_has_its_texts_here() -> None:
    assert set(SENTENCES) == set(GOLDEN) == set(LANGUAGE_CODES)


@pytest.mark.parametrize("language", GOLDEN)
def test_words_and_scores_are_those_worked_out_by_hand(language: str) -> None:
    of = GOLDEN[language]
    words, predicted = ([word.replace("␣", " ") for word in of[key].split()] for key in ("words", "predicted"))
    assert tokenize(of["reference"], language) == words
    assert tokenize(of["prediction"], language) == predicted
    number = len(words) + len(predicted)
    shared, pairs, longest = of["shared"]
    # 2PR / (P + R) of hits/a and hits/b is 2 hits / (a + b).
    wanted = (2 * shared / number, 2 * pairs / (number - 2), 2 * longest / number, 2 * longest / number)
    assert scores(language, of["reference"], of["prediction"]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_summary_equal_to_its_reference_scores_1_and_an_unrelated_one_0(language: str) -> None:
    sentence = SENTENCES[language]
    other = SENTENCES["korean" if language != "korean" else "tamil"].replace(" ", "")
    for profile in PROFILES:
        assert len(tokenize(sentence, language, profile)) >= 3
        assert scores(language, sentence, sentence, profile) == (1.0, 1.0, 1.0, 1.0)
        assert scores(language, sentence, other, profile) == (0.0, 0.0, 0.0, 0.0)
        assert scores(language, sentence, "", profile) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("language", SENTENCES)
def test_case_punctuation_spaces_and_composition_do_not_count(language: str) -> None:
    sentence = SENTENCES[language]
    tokens = tokenize(sentence, language)
    first, *rest = sentence.split()
    upper = sentence.upper() if language not in TURKIC else sentence.title()  # a capital ı comes back as i
    for same in (
        upper,
        unicodedata.normalize("NFD", sentence),
        f"«{sentence}»!",
        f"“{sentence}”…",
        f"¿ {sentence} ?",
        f"{sentence}。",
        f"{sentence}।",
        f"{sentence}؟",
        f"{sentence}።",
        f"{sentence}။",
        " - ".join([first, *rest]),
        ", ".join([first, *rest]),
        "\n".join([first, *rest]),
        "\t".join([first, *rest]),
        "\r\n".join([first, *rest]),
        "\u00a0".join([first, *rest]),
        "\u2028".join([first, *rest]),
        "\u200c".join([first, *rest]),
        f"\ufeff{sentence}\u200f",
    ):
        assert tokenize(same, language) == tokens, same


@pytest.mark.parametrize("language", sorted(set(SENTENCES) - {*SEGMENTED, "burmese"}))
def test_spaced_languages_are_cut_at_spaces_and_punctuation_alone(language: str) -> None:
    words = SENTENCES[language].replace("'", " ").replace("-", " ").split()
    assert tokenize(SENTENCES[language], language, stem=False) == words
    if language not in STEMMED:
        assert tokenize(SENTENCES[language], language) == words


@pytest.mark.parametrize("language", [*SEGMENTED, "burmese"])
def test_unspaced_languages_are_cut_into_words_and_nothing_is_lost(language: str) -> None:
    sentence = SENTENCES[language]
    tokens = tokenize(sentence, language)
    assert "".join(tokens).replace(" ", "") == sentence.replace(" ", "")
    assert any(len(token) > 1 for token in tokens), "words, not characters"
    assert all(unicodedata.category(token[0]) == "Lo" for token in tokens if token != " "), "no mark without its letter"


@pytest.mark.parametrize(
    ("language", "text", "tokens"),
    [
        ("english", "don't `quote` a^b", "don t quot a b"),
        ("english", "It costs €5 at 20°C, +3%", "it cost € 5 at 20 ° c 3"),
        ("english", "👍🏽 ok ❤\ufe0f", "👍 🏽 ok ❤\ufe0f"),
        ("english", "covid19 COVID-19", "covid 19 covid 19"),
        ("english", "in 東京 today", "in 東 京 today"),
        ("english", "bro\ufffdken", "broken"),
        ("english", "", ""),
        ("english", "…!?\u200b", ""),
        ("chinese_simplified", "COVID-19 的 2 例", "covid ␣ 19 ␣ 的 ␣ 2 ␣ 例"),
        ("japanese", "東京タワーでphotoを3枚。", "東京 タワー で photo を 3 枚"),
        ("thai", "วันนี้ 5 คน", "วันนี้ ␣ 5 ␣ คน"),
        ("burmese", "BBC သတင်း", "b b c သ တင်း"),
        ("uzbek", "IŞIK", "işik"),
        ("hindi", "क\u094d\u200dष क\u094dष", "क्ष क्ष"),
    ],
)
def test_particular_texts(language: str, text: str, tokens: str) -> None:
    assert tokenize(text, language, "xlsum") == [token.replace("␣", " ") for token in tokens.split()]


@pytest.mark.parametrize(
    ("text", "syllables"),
    [
        ("အင်္ဂလိပ်", "အင်္ဂ လိပ်"),  # kinzi: asat and the stacking sign
        ("ကျွန်တော်", "ကျွန် တော်"),  # the asat of ော် closes nothing
        ("ဗုဒ္ဓ", "ဗု ဒ္ဓ"),  # stacked consonants stay together
        ("ဘတ်စ်", "ဘတ် စ်"),  # a second closing consonant stands alone
        ("ဘတ်စ်ခ်", "ဘတ် စ် ခ်"),
        ("ညွှန်း", "ညွှန်း"),
        ("၂၀ BBC news", "၂ ၀ bbc news"),
        ("ပုံ့", "ပုံ့"),
    ],
)
def test_burmese_syllables(text: str, syllables: str) -> None:
    assert burmese_syllables(text) == [unicodedata.normalize("NFC", s) for s in syllables.split()]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It rains. Nobody came! Why? ", 3),
        ("It is 3.5 km, e.g. by car.", 1),
        ("He said “No.” Then he left.", 2),
        ("one line\nand another\r\n\r\nand a third", 3),
        ("今天很冷。明天呢？后天！", 3),
        ("今日は寒い。明日は？", 2),
        ("आज ठंड है। कल नहीं॥", 2),
        ("আজ ঠান্ডা। কাল নয়।", 2),
        ("اليوم بارد. وغدا؟", 2),
        ("آج سردی ہے۔ کل نہیں۔", 2),
        ("ዛሬ ቀዝቃዛ ነው። ነገስ፧", 2),
        ("ဒီနေ့ အေးတယ်။ မနက်ဖြန်၊ ပူမယ်။", 2),
        ("วันนี้หนาว พรุ่งนี้ร้อน", 1),
        ("Сегодня холодно. Завтра нет.", 2),
        ("오늘은 춥다. 내일은 아니다.", 2),
        ("", 0),
        (" \n ", 0),
    ],
)
def test_sentences(text: str, parts: int) -> None:
    assert len(sentences(text)) == parts


def test_summary_level_lcs_of_lins_example() -> None:
    """Section 3.2 of Lin (2004): of w1..w5 the two sentences cover w1 w2 w3 w5, 4 of 5, with 10 words."""
    reference, prediction = "va vb vc vd ve", "va vb vf vg vh\nva vc vh vi ve"
    assert scores("pidgin", reference, prediction, "xlsum")[3] == pytest.approx(2 * 0.4 * 0.8 / 1.2)


def test_words_of_three_letters_are_not_stemmed() -> None:
    assert tokenize("ties tie runs run", "english") == ["tie", "tie", "run", "run"]
    assert tokenize("the gas was his", "english") == ["the", "gas", "was", "his"]


ascii_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from("\n\t"), max_size=60)


@given(ascii_text)
def test_english_is_cut_as_rouge_score_cuts_it(text: str) -> None:
    """But for numbers that stand by a letter."""
    cut = [part for token in DefaultTokenizer().tokenize(text) for part in re.findall("[a-z]+|[0-9]+", token)]
    assert tokenize(text, profile="xlsum", stem=False) == cut


words = st.lists(st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", "on", "mat", ".", "\n"]), max_size=14)


@given(words, words)
def test_english_scores_are_rouge_scores_own(reference: list[str], prediction: list[str]) -> None:
    """rouge-score wants a line a sentence."""
    texts = ["\n".join(sentences(" ".join(words))) for words in (reference, prediction)]
    theirs = RougeScorer(list(ROUGE)).score(*texts)
    (ours,) = score_rouge([("english", *texts)])
    if not re.search("[a-z]", texts[0]):
        assert ours is None, "there is nothing to find in a reference without a word"
    else:
        assert ours == pytest.approx([theirs[name].fmeasure for name in ROUGE], abs=1e-9)


@given(st.text(max_size=40), st.sampled_from(sorted(LANGUAGE_CODES)), st.sampled_from(PROFILES))
def test_any_text_in_any_language_gives_words(text: str, language: str, profile: Profile) -> None:
    tokens = tokenize(text, language, profile)
    for token in tokens:
        assert token == " " or not any(character.isspace() for character in token)
    assert bool(tokens) == bool(tokens_by_line(text, language, profile))


def test_lines_of_xlsum_are_cut_by_no_segmenter() -> None:
    """Its ROUGE-Lsum forgets the language's tokenizer, and cuts no digit from a letter."""
    assert tokens_by_line("今天很冷。\n明天", "chinese_simplified", "xlsum") == [["今天很冷"], ["明天"]]
    assert tokens_by_line("今天很冷。\n明天", "chinese_simplified", "normalized") == [["今天", "很", "冷"], ["明天"]]
    assert tokens_by_line("covid19\n\nis here", "english", "xlsum") == [["covid19"], ["is", "here"]]
    assert tokenize("covid19\n\nis here", "english", "xlsum") == ["covid", "19", "is", "here"]


def test_dictionaries_are_loaded_for_their_languages_alone() -> None:
    program = """
import sys
from trainer.evaluation.scoring.rouge import rouge_of
rouge_of([("pidgin", "a text", "one more"), ("urdu", "آج", "کل")])
print(sorted({"jieba", "pythainlp", "fugashi", "torch", "pycld2", "py3langid"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_means() -> None:
    one, two = dict.fromkeys(ROUGE, 20.0), dict.fromkeys(ROUGE, 40.0)
    assert mean_scores([one, two]) == dict.fromkeys(ROUGE, 30.0)
    assert mean_scores([]) == {}
    assert mean_scores([{"a": 1.0, "b": None}, {"a": 2.0, "b": None}, {"a": None}], ["a", "b"]) == {"a": 1.5}
    assert ROUGE[:3] == TYPES
