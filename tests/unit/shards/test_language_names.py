"""Names and codes of languages, as people type them."""

import pytest

from shards.errors import InputError, did_you_mean
from shards.languages import LANGUAGE_CODES, language_name, languages_in_corpus


@pytest.mark.parametrize(("name", "code"), LANGUAGE_CODES.items())
def test_names_and_codes_mean_the_language_in_any_case(name: str, code: str) -> None:
    for text in (name, code, name.upper(), code.upper(), f" {code} "):
        assert language_name(text) == name


def test_there_are_crosssums_45_with_codes_of_their_own() -> None:
    assert len(LANGUAGE_CODES) == len(set(LANGUAGE_CODES.values())) == 45
    assert list(LANGUAGE_CODES) == sorted(LANGUAGE_CODES)  # their order gives mT5's start tokens


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("chinese_simplified", "zh-CN zh_CN ZH-cn zh-Hans zh_Hans_CN zh-SG chinese-simplified"),
        ("chinese_traditional", "zh-TW zh_tw zh-Hant zh-HK zh-Hant-TW"),
        ("serbian_latin", "sr-Latn sr_latn SERBIAN-LATIN"),
        ("serbian_cyrillic", "sr sr-Cyrl sr_cyrl"),
        ("nepali", "np ne NP"),
    ],
)
def test_crosssums_own_codes_and_other_ways_to_write_one(name: str, texts: str) -> None:
    for text in texts.split():
        assert language_name(text) == name


CHINESE, SERBIAN = ("'chinese_simplified' or 'chinese_traditional'", "'serbian_cyrillic' or 'serbian_latin'")


@pytest.mark.parametrize(
    ("hint", "texts"),
    [
        ("'english'", ("engish", "Englisch")),
        (CHINESE, ("chinese", "Chinees", "zh-XX", "zh-Latn", "chinese_hant")),
        (SERBIAN, ("serbian", "srbian", "sr-RS", "sr-lat", "serbian_latn")),
        (
            "",
            ("xx-unheard-of", "fi", "ben", "som", "az-Arab", "uzbek-cyrillic", "kurdish", "norwegian", "cn", "", "\n"),
        ),
    ],
)
def test_an_unknown_language_suggests_a_close_one_and_never_one_of_two_scripts(hint: str, texts: tuple[str]) -> None:
    for text in texts:
        with pytest.raises(InputError, match="unknown language") as caught:
            language_name(text)
        assert (f"(did you mean {hint}?)" in str(caught.value)) == bool(hint), text
        assert ("did you mean" in str(caught.value)) == bool(hint), text
        assert "\n" not in str(caught.value)


def test_languages_keep_the_order_given_and_must_be_there() -> None:
    assert languages_in_corpus(["ur", "english"], ("english", "urdu")) == ["urdu", "english"]
    with pytest.raises(InputError, match="'welsh' is not in the corpus, which has 2: english, urdu"):
        languages_in_corpus(["cy"], ("urdu", "english"))


def test_no_suggestion_is_better_than_a_far_one() -> None:
    assert did_you_mean("zzz", ["steps"]) == ""
