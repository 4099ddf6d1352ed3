"""ROUGE in every script: words where words are spaced, characters where they are not, English as everybody has it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from shards.languages import LANGUAGE_CODES
from trainer.evaluation.rouge import TYPES, MultilingualTokenizer, Rouge, mean_scores

#: "The water in the river is cold today" or nearly so.
SENTENCES = {
    "amharic": "ዛሬ የወንዙ ውሃ ቀዝቃዛ ነው",
    "arabic": "ماء النهر بارد اليوم",
    "azerbaijani": "bu gün çayın suyu soyuqdur",
    "bengali": "আজ নদীর জল ঠান্ডা",
    "burmese": "ဒီနေ့ မြစ်ရေ အေးတယ်",
    "chinese_simplified": "今天河里的水很冷",
    "chinese_traditional": "今天河裡的水很冷",
    "english": "the water in the river is cold today",
    "french": "l'eau de la rivière est froide aujourd'hui",
    "gujarati": "આજે નદીનું પાણી ઠંડું છે",
    "hausa": "ruwan kogi yana da sanyi yau",
    "hindi": "आज नदी का पानी ठंडा है",
    "igbo": "mmiri osimiri dị oyi taa",
    "indonesian": "air sungai dingin hari ini",
    "japanese": "今日は川の水がつめたいデス",
    "kirundi": "amazi yo mu ruzi arakanye uyu munsi",
    "korean": "오늘 강물이 차갑다",
    "kyrgyz": "бүгүн дарыянын суусу муздак",
    "marathi": "आज नदीचे पाणी थंड आहे",
    "nepali": "आज नदीको पानी चिसो छ",
    "oromo": "bishaan lagaa har'a qabbanaawaa dha",
    "pashto": "نن د سیند اوبه سړې دي",
    "persian": "آب رودخانه امروز سرد است",
    "pidgin": "di wota for river dey cold today",
    "portuguese": "a água do rio está fria hoje",
    "punjabi": "ਅੱਜ ਨਦੀ ਦਾ ਪਾਣੀ ਠੰਢਾ ਹੈ",
    "russian": "сегодня вода в реке холодная",
    "scottish_gaelic": "tha an t-uisge san abhainn fuar an-diugh",
    "serbian_cyrillic": "вода у реци је данас хладна",
    "serbian_latin": "voda u reci je danas hladna",
    "sinhala": "අද ගඟේ වතුර සීතලයි",
    "somali": "biyaha webiga maanta waa qabow",
    "spanish": "el agua del río está fría hoy",
    "swahili": "maji ya mto ni baridi leo",
    "tamil": "இன்று ஆற்று நீர் குளிராக உள்ளது",
    "telugu": "ఈ రోజు నది నీరు చల్లగా ఉంది",
    "thai": "วันนี้น้ำในแม่น้ำเย็น",
    "tigrinya": "ሎሚ ማይ ሩባ ዝሑል እዩ",
    "turkish": "nehrin suyu çok soğuk",
    "ukrainian": "сьогодні вода в річці холодна",
    "urdu": "آج دریا کا پانی ٹھنڈا ہے",
    "uzbek": "bugun daryo suvi sovuq",
    "vietnamese": "hôm nay nước sông lạnh",
    "welsh": "mae dŵr yr afon yn oer heddiw",
    "yoruba": "omi odò tutù lónìí",
}
UNSPACED = ("burmese", "chinese_simplified", "chinese_traditional", "japanese", "thai")

tokenize = MultilingualTokenizer().tokenize
rouge = Rouge()


def test_every_language_has_a_sentence_here() -> None:
    assert set(SENTENCES) == set(LANGUAGE_CODES)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_summary_equal_to_its_reference_scores_100_and_an_unrelated_one_0(language: str) -> None:
    sentence = SENTENCES[language]
    assert len(tokenize(sentence)) >= 3
    assert rouge(sentence, sentence) == pytest.approx(dict.fromkeys(TYPES, 100.0))
    other = SENTENCES["korean" if language != "korean" else "thai"]
    assert rouge(sentence, other) == dict.fromkeys(TYPES, 0.0)
    assert rouge(sentence, "") == dict.fromkeys(TYPES, 0.0)


@pytest.mark.parametrize("language", SENTENCES)
def test_case_punctuation_spaces_and_composition_do_not_count(language: str) -> None:
    sentence = SENTENCES[language]
    tokens = tokenize(sentence)
    first, *rest = sentence.split()
    for same in (
        sentence.title() if language not in ("french", "oromo") else sentence.upper(),
        unicodedata.normalize("NFD", sentence),
        f"«{sentence}»!",
        f"“{sentence}”…",
        f"¿ {sentence} ?",
        f"{sentence}。",
        f"{sentence}।",
        f"{sentence}؟",
        f"{sentence}።",
        " - ".join([first, *rest]),
        ", ".join([first, *rest]),
        "\n".join([first, *rest]),
        "\t".join([first, *rest]),
        "\r\n".join([first, *rest]),
        "\u00a0".join([first, *rest]),
        "\u2028".join([first, *rest]),
        f"\ufeff{sentence}\u200f",
    ):
        assert tokenize(same) == tokens, same


@pytest.mark.parametrize("language", sorted(set(SENTENCES) - set(UNSPACED)))
def test_spaced_languages_are_cut_at_spaces_and_punctuation_alone(language: str) -> None:
    words = SENTENCES[language].replace("'", " ").replace("-", " ").split()
    assert tokenize(SENTENCES[language]) == words


@pytest.mark.parametrize("language", UNSPACED)
def test_unspaced_scripts_are_cut_into_characters_with_their_marks(language: str) -> None:
    sentence = SENTENCES[language].replace(" ", "")
    tokens = tokenize(sentence)
    assert "".join(tokens) == unicodedata.normalize("NFC", sentence)
    for token in tokens:
        assert unicodedata.category(token[0]) == "Lo"
        assert all(unicodedata.category(mark).startswith("M") for mark in token[1:])
    if language in ("thai", "burmese"):
        assert any(len(token) > 1 for token in tokens)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("می\u200cخواهم", ["میخواهم"]),  # ZWNJ inside a Persian word
        ("ක්\u200dර", ["ක්ර"]),  # ZWJ inside a Sinhala cluster
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("東京タワーでphotoを3枚", ["東", "京", "タ", "ワ", "ー", "で", "photo", "を", "3", "枚"]),
        ("COVID-19 的 2 例", ["covid", "19", "的", "2", "例"]),
        ("don't `quote` a^b", ["don", "t", "quote", "a", "b"]),
        ("👍🏽 ok", ["👍🏽", "ok"]),
        ("", []),
        ("…!?\u200b", []),
    ],
)
def test_particular_texts(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


ascii_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from("\n\t"), max_size=60)


@given(ascii_text)
def test_english_is_cut_as_rouge_score_cuts_it(text: str) -> None:
    assert tokenize(text) == DefaultTokenizer().tokenize(text)


@given(
    st.lists(st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", "on", "mat"]), max_size=12),
    st.lists(st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", "on", "mat"]), max_size=12),
)
def test_english_scores_are_rouge_scores_own(reference: list[str], prediction: list[str]) -> None:
    theirs = RougeScorer(list(TYPES)).score(" ".join(reference), " ".join(prediction))
    ours = rouge(" ".join(reference), " ".join(prediction))
    assert ours == pytest.approx({name: 100 * score.fmeasure for name, score in theirs.items()})


@given(st.text(max_size=40))
def test_any_text_gives_tokens_that_are_stable(text: str) -> None:
    tokens = tokenize(text)
    assert all(tokens)
    assert tokenize(" ".join(tokens)) == tokens


def test_means() -> None:
    one, two = dict.fromkeys(TYPES, 20.0), dict.fromkeys(TYPES, 40.0)
    assert mean_scores([one, two]) == dict.fromkeys(TYPES, 30.0)
    assert mean_scores([]) == {}
