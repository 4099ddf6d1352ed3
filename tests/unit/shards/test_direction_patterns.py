"""The little language in which a person names directions."""

import pytest

from shards.directions import by_kind, direction_kind, parse_directions
from shards.errors import InputError

LANGUAGES = ("chinese_traditional", "english", "russian", "serbian_latin", "urdu")
ZH, EN, RU, SR, UR = range(5)
ALL = {(s, t) for s in range(5) for t in range(5)}


@pytest.mark.parametrize(
    ("text", "directions"),
    [
        ("all", ALL),
        ("mms", {(n, n) for n in range(5)}),
        ("mxls", {(s, t) for s, t in ALL if s != t}),
        ("en-ru", {(EN, RU)}),
        ("english-russian", {(EN, RU)}),
        (" EN - urdu ", {(EN, UR)}),
        ("en-ru,ru-en", {(EN, RU), (RU, EN)}),
        ("*-ur", {(n, UR) for n in range(5)}),
        ("en-*", {(EN, n) for n in range(5)}),
        ("*>*", ALL),
        ("zh-Hant>en", {(ZH, EN)}),
        ("en>zh-Hant", {(EN, ZH)}),
        ("sr-Latn>zh-Hant", {(SR, ZH)}),
        ("en-zh-Hant", {(EN, ZH)}),
        ("zh-TW-en", {(ZH, EN)}),
        ("zh_TW-zh-Hant", {(ZH, ZH)}),
        ("sr-latn-zh-hk,en-chinese-traditional", {(SR, ZH), (EN, ZH)}),
        ("*-zh-TW", {(n, ZH) for n in range(5)}),
        ("mms,en-ru", {(n, n) for n in range(5)} | {(EN, RU)}),
        ("en-ru, en-ru, *-ru", {(n, RU) for n in range(5)}),
        ("ur-ur", {(UR, UR)}),
    ],
)
def test_patterns(text: str, directions: set[tuple[int, int]]) -> None:
    found = parse_directions(text, LANGUAGES)
    assert set(found) == directions
    assert found == sorted(set(found), key=lambda d: (d[1], d[0]))  # by target, without repeats


def test_a_subset_limits_stars_and_words_but_not_what_is_named() -> None:
    subset = ("en", "urdu")
    assert set(parse_directions("all", LANGUAGES, subset)) == {(s, t) for s in (EN, UR) for t in (EN, UR)}
    assert parse_directions("mxls", LANGUAGES, subset) == [(UR, EN), (EN, UR)]
    assert parse_directions("*-ru", LANGUAGES, subset) == [(EN, RU), (UR, RU)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "none of all, mms, mxls"),
        ("every", "none of all, mms, mxls"),
        ("en-ru,", "none of all, mms, mxls"),
        ("en_ru", "none of all, mms, mxls"),
        ("en-xx", "unknown language 'xx'"),
        ("zh-TW", "none of all, mms, mxls"),
        ("englsh-ru", "did you mean 'english'"),
        ("en-cy", "'welsh' is not in the corpus"),
        ("en-", "unknown language ''"),
    ],
)
def test_mistakes_are_one_line_that_says_how(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_directions(text, LANGUAGES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kinds_are_those_that_have_directions() -> None:
    assert direction_kind("urdu", "urdu") == direction_kind(UR, UR) == "mms"
    assert direction_kind("urdu", "english") == direction_kind(UR, EN) == "mxls"
    assert list(by_kind([(RU, EN), (EN, EN), (UR, EN)]).items()) == [
        ("mms", [(EN, EN)]),
        ("mxls", [(RU, EN), (UR, EN)]),
    ]
    assert by_kind([(EN, EN)]).keys() == {"mms"}
    assert by_kind([]) == {}
