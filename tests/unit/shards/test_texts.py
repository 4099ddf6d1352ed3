"""Tell texts that a reader can see from others, and refuse lines of JSON that are none."""

import io
import unicodedata

import pytest

from shards.text import lines as texts
from shards.text.lines import decode, has_text, parse_object, read_lines


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\r\n\u00a0\u3000\u2028",
        "\u200b\u200c\u200d\u2060\ufeff",
        "\u00ad\u034f\u061c\u180e",
        "\x00\x07\x1b\x7f\x85",
        "\u2066\u202e\u2069",
        "\u115f\u1160\u3164\uffa0",
        "\u2800\U0001d159",
        "\ufe0f\ufe00\U000e0100\U000e0041",
        "\ufff9\ufffa\ufffb\uffff\U0010ffff",
        "\u17b4\u17b5\u180b",
        "\ud800",
    ],
)
def test_nothing_to_see(text: str) -> None:
    assert not has_text(text)
    assert has_text(f"{text}a{text}")


@pytest.mark.parametrize("text", [".", "\u0301", "\ufffd", "🙂", "1\ufe0f\u20e3", "\u200bن\u200c", "\ue000", "ก"])
def test_something_to_see(text: str) -> None:
    assert has_text(text)


def test_controls_spaces_and_format_characters_are_never_seen() -> None:
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}
    characters = map(chr, range(0x110000))
    assert not [hex(ord(c)) for c in characters if unicodedata.category(c) in hidden and has_text(c)]


def test_lines_keep_their_places_however_long_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "LONGEST", 8)
    content = b'{"a":1}\n' + b"x" * 30 + b"\n\n" + b"y" * 8 + b"\n" + b"z" * 9
    found = list(read_lines(io.BytesIO(content)))
    assert [(number, offset) for number, offset, _ in found] == [(1, 0), (2, 8), (3, 39), (4, 40), (5, 49)]
    assert [line for _, _, line in found] == [b'{"a":1}\n', b"x" * 9, b"\n", b"y" * 8 + b"\n", b"z" * 9]
    assert parse_object(found[0][2]) == {"a": 1}
    with pytest.raises(ValueError, match="is longer than"):
        parse_object(found[1][2])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number that is too long"),
        (b"[" * 10**6, "too much within another"),
        (b'{"a": "\xe8"}', r"is not UTF-8 text \(invalid continuation byte at byte 7\)"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        (b'{"a": "\xed\xa0\x80"}', "is not UTF-8 text"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "is JSON in which 'c' comes twice"),
    ],
)
def test_what_is_no_object_says_why(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_object(line)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert decode(b"\xef\xbb\xbfa\xef\xbb\xbf") == "a\ufeff"
    assert parse_object(b'\xef\xbb\xbf{"a": "b"}\r\n') == {"a": "b"}
