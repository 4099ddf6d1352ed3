"""Test which sentences of a document are translated, by what, and when there is no variant instead."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import NllbTokenizer
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from launcher.preparation.augmentation.augment import Augmenter, open_augmenter
from launcher.preparation.augmentation.model import check_model, fingerprint, open_model
from launcher.preparation.augmentation.nllb_codes import NLLB_CODES
from launcher.preparation.augmentation.parallel import aligned
from launcher.preparation.augmentation.selection import NoTokensError, choose, cut, rebuild
from launcher.preparation.augmentation.settings import Augmentation, Choice, augmentation_of, augmented_directions
from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from shards.schema import Article, Story
from shards.variant_counts import VariantCounts
from tests.support.translation import save_m2m100

DOCUMENT = "Rain fell. The king met the queen! Nobody slept? A king and a queen left the city."
SUMMARY = "The king and the queen left."
LANGUAGES = ("english", "french", "hindi")


def chosen(choice: Choice, share: int = 50, document: str = DOCUMENT, story: str = "a", seed: int = 0) -> list[int]:
    settings = Augmentation(choice=choice, share=share, seed=seed)
    return choose(settings, cut(document, lists=False), SUMMARY, story=story, language="english")


def test_informative_sentences_have_the_highest_rouge_and_uninformative_ones_the_lowest() -> None:
    assert chosen("informative") == [1, 3]
    assert chosen("uninformative") == [0, 2]
    assert chosen("informative", 25) == [1]
    # Of equal ROUGE (0) the first sentence is the more informative one.
    assert chosen("informative", 75) == [0, 1, 3]
    assert chosen("uninformative", 25) == [2]


def test_truncation_takes_the_first_half() -> None:
    assert chosen("truncation") == [0, 1]


def test_random_sentences_follow_from_seed_and_story_alone() -> None:
    document = "".join(f"Sentence {number}. " for number in range(40))
    first = chosen("random", document=document)
    assert len(first) == 20
    assert first == sorted(first) == chosen("random", document=document)
    others = [chosen("random", document=document, story="b"), chosen("random", document=document, seed=1)]
    assert first not in others
    assert set(chosen("random", 25, document=document)) < set(first)


@pytest.mark.parametrize(("share", "count"), [(1, 1), (30, 1), (50, 2), (99, 3), (100, 4)])
def test_the_share_is_rounded_and_below_all_a_sentence_stays(share: int, count: int) -> None:
    assert len(chosen("truncation", share)) == count


def test_a_document_of_one_sentence_is_translated_whole_or_not_at_all() -> None:
    assert chosen("informative", 50, document="One sentence.") == []
    assert chosen("informative", 100, document="One sentence.") == [0]


def test_a_summary_without_a_word_has_no_rouge() -> None:
    with pytest.raises(NoTokensError):
        choose(Augmentation(choice="informative"), cut(DOCUMENT, lists=False), "…", story="a", language="english")


@pytest.mark.parametrize(
    "document",
    [DOCUMENT, "पहला वाक्य। दूसरा वाक्य।", "第一句。第二句！\n第三句", " leading. Blank.\n\nLines.  ", "no end"],
)
def test_sentences_joined_are_the_document(document: str) -> None:
    assert rebuild(cut(document, lists=False), {}) == document


def test_lists_are_cut_at_the_commas_of_their_script() -> None:
    for document in ("red, 1, green", "أحمر، أخضر، أزرق", "红、绿、蓝"):
        units = cut(document, lists=True)
        assert len(units) == 3
        assert rebuild(units, {}) == document
        assert rebuild(units, {1: "X"}) == units[0][0] + units[0][1] + "X" + units[1][1] + units[2][0]


def test_positions_are_aligned_in_proportion() -> None:
    assert [aligned(place, 4, 4) for place in range(4)] == [0, 1, 2, 3]
    assert [aligned(place, 3, 6) for place in range(3)] == [1, 3, 5]
    assert [aligned(place, 6, 3) for place in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [aligned(place, 5, 1) for place in range(5)] == [0] * 5


def story(**texts: str) -> Story:
    return Story(
        key="a",
        articles=tuple(Article(language=name, text=text, summary=SUMMARY) for name, text in texts.items()),
    )


def parallel(choice: Choice = "informative", share: int = 50) -> Augmenter:
    settings = Augmentation(choice=choice, share=share, directions="*-en")
    return open_augmenter(settings, LANGUAGES, lists=False)


def test_a_variant_has_the_parallel_article_s_sentences_at_the_chosen_places() -> None:
    counts = VariantCounts()
    made = parallel().augment(story(english=DOCUMENT, french="Un. Deux. Trois. Quatre."), counts)
    [variant] = made.variants
    assert (variant.language, variant.target) == ("french", "english")
    assert variant.text == "Rain fell. Deux. Nobody slept? Quatre."
    assert counts.directions() == [
        ("french", "english", {"made": 1}),
        ("hindi", "english", {"no parallel article": 1}),
    ]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"english": DOCUMENT, "french": "Un. Deux."}, None),
        ({"english": DOCUMENT, "french": "Un."}, "no counterpart in a shorter parallel article"),
        ({"english": "One sentence", "french": "Un. Deux."}, "a document of one sentence"),
        ({"english": DOCUMENT, "french": DOCUMENT}, "a translation that changes nothing"),
    ],
)
def test_what_has_no_variant_is_counted_with_the_reason(texts: dict[str, str], reason: str | None) -> None:
    counts = VariantCounts()
    made = parallel().augment(story(**texts), counts)
    assert counts.counts["french"]["english"] == {reason or "made": 1}
    assert len(made.variants) == (reason is None)


def test_a_summary_without_a_word_is_counted() -> None:
    counts = VariantCounts()
    silent = Story(key="a", articles=(Article(language="english", text=DOCUMENT, summary="☀"),))
    parallel().augment(replace(silent, articles=(replace(silent.articles[0], summary="…"),)), counts)
    assert counts.total() == {"a summary without a word": 2}


def test_directions_are_a_pattern_without_the_monolingual_ones() -> None:
    def of(pattern: str) -> dict[str, tuple[str, ...]]:
        return augmented_directions(Augmentation(choice="random", directions=pattern), LANGUAGES)

    assert of("*-en") == {"english": ("french", "hindi")}
    assert of("all") == {name: tuple(each for each in LANGUAGES if each != name) for name in LANGUAGES}
    assert of("en-fr,hi-fr") == {"french": ("english", "hindi")}
    for pattern in ("mms", "en-en", "ru-en", "nonsense"):
        with pytest.raises(InputError, match="--augment-directions"):
            of(pattern)


def test_options_without_sense_are_refused() -> None:
    assert augmentation_of(None) is None
    assert augmentation_of("random", share=100, seed=3) == Augmentation(choice="random", share=100, seed=3)
    with pytest.raises(InputError, match="--translator is for --augment"):
        augmentation_of(None, translator="parallel")
    with pytest.raises(InputError, match="--augment-share is for --augment"):
        augmentation_of(None, share=50)
    with pytest.raises(InputError, match="none of informative"):
        augmentation_of("best")
    for share in (0, 101):
        with pytest.raises(InputError, match="a percentage"):
            augmentation_of("random", share=share)


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_m2m100(tmp_path_factory.mktemp("m2m100") / "model")


def test_a_model_of_m2m100_s_kind_translates_into_the_language_asked_for(m2m100: Path) -> None:
    settings = Augmentation(choice="informative", directions="*-en", translator=str(m2m100))
    augmenter = open_augmenter(settings, (*LANGUAGES, "tigrinya"), lists=False)
    assert augmenter.unknown_languages() == ["tigrinya"]
    counts = VariantCounts()
    # A worker gets a copy without the network.
    made = pickle.loads(pickle.dumps(augmenter)).augment(story(english=DOCUMENT), counts)
    assert counts.counts == {
        "french": {"english": {"made": 1}},
        "hindi": {"english": {"made": 1}},
        "tigrinya": {"english": {"a language that the model does not know": 1}},
    }
    french, hindi = made.variants
    for variant in (french, hindi):
        assert variant.text.startswith("Rain fell. ")
        assert "Nobody slept?" in variant.text
        assert "king" not in variant.text
        assert "__" not in variant.text
    assert french.text != hindi.text
    assert made.variants == augmenter.augment(story(english=DOCUMENT), counts).variants


def test_a_sentence_too_long_for_the_model_is_not_cut(m2m100: Path) -> None:
    settings = Augmentation(choice="truncation", directions="*-en", translator=str(m2m100))
    augmenter, counts = open_augmenter(settings, LANGUAGES, lists=False), VariantCounts()
    augmenter.augment(story(english="sun moon star " * 60 + ". Short."), counts)
    assert counts.total() == {"a sentence too long for the model": 2}


def test_the_codes_of_nllb_are_its_own(tmp_path: Path) -> None:
    assert set(NLLB_CODES.values()) <= set(FAIRSEQ_LANGUAGE_CODES)
    assert LANGUAGE_CODES.keys() - NLLB_CODES.keys() == {"pidgin", "serbian_latin"}
    NllbTokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "m2m_100"}')
    assert open_model(tmp_path, lists=False).codes == NLLB_CODES


def test_a_directory_without_a_translation_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        check_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mt5"}')
    with pytest.raises(InputError, match="kind 'mt5'"):
        check_model(tmp_path)


def test_a_model_s_fingerprint_is_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    before = fingerprint(tmp_path)
    (tmp_path / ".hidden").write_text("b")
    assert fingerprint(tmp_path) == before
    (tmp_path / "a").write_text("b")
    assert fingerprint(tmp_path) != before
