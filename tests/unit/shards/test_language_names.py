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


@pytest.mark.parametrize(("text", "hint"), [("engish", "english"), ("sr_latn", "sr-Latn"), ("xx-unheard-of", "")])
def test_an_unknown_language_suggests_the_closest(text: str, hint: str) -> None:
    with pytest.raises(InputError, match="unknown language") as caught:
        language_name(text)
    assert (f"did you mean {hint!r}" in str(caught.value)) == bool(hint)
    assert "\n" not in str(caught.value)


def test_languages_keep_the_order_given_and_must_be_there() -> None:
    assert languages_in_corpus(["ur", "english"], ("english", "urdu")) == ["urdu", "english"]
    with pytest.raises(InputError, match="'welsh' is not in the corpus, which has 2: english, urdu"):
        languages_in_corpus(["cy"], ("urdu", "english"))


def test_no_suggestion_is_better_than_a_far_one() -> None:
    assert did_you_mean("zzz", ["steps"]) == ""
