"""YAML 1.2's core schema, read strictly; what is written reads back to the same, with older readers too."""

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from shards.errors import InputError
from shards.files.strict_yaml import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("1:30", "1:30"),
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        ("+.5", 0.5),
        ("1.", 1.0),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0x1F", "-0x1F"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("true", True),
        ("FALSE", False),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("~", None),
        ("", None),
        ("Null", None),
        ("-.inf", float("-inf")),
        ("2026-08-01", "2026-08-01"),
        ("12:30:00", "12:30:00"),
        ("=", "="),
        ("'10'", "10"),
        ('"true"', "true"),
        ("!!str 10", "10"),
        ('!!float "1"', 1),
        ("9" * 400, "9" * 400),
    ],
)
def test_words_are_what_the_core_schema_says(text: str, value: object) -> None:
    read = read_yaml(f"key: {text}", "it")["key"]
    assert read == value
    assert type(read) is type(value)


def test_keys_are_text() -> None:
    assert read_yaml("no: 1\n1: 2\ntrue: 3\n~: 4\n", "it") == {"no": 1, "1": 2, "true": 3, "~": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "key 'a' stands in line 1 and again in line 3"),
        ("a:\n  b: 1\n  'b': 2", "key 'b' stands in line 2 and again in line 3"),
        ("[{a: 1,\n a: 1}]", "key 'a' stands in line 1 and again in line 2"),
        ("a: &x 1", "line 1 names a value by &x"),
        ("a: 1\nb: *a", "line 2 stands for another value by *a"),
        ("<<: {a: 1}", "line 1 merges another mapping"),
        ("a: !!python/object/apply:os.system [ls]", "line 1 has the tag"),
        ("a: !secret x", "line 1 has the tag !secret"),
        ("a: !!binary aGk=", "line 1 has the tag"),
        ("a: !!int x", "line 1 has the tag"),
        ("a: 1\n---\nb: 2", "begins a second document"),
        ("? [a, b]\n: 1", "a key is text"),
        ("[" * 100, "deeper than 32 levels"),
        ("{a: " * 5000, "deeper than 32 levels"),
        ("- " * 100 + "a", "deeper than 32 levels"),
        ("a: " + "x" * 300_000, "characters"),
        ("a: [", "is not YAML"),
        ("a: b: c", "is not YAML: mapping values are not allowed here (line 1, column 5)"),
        ("a: \0", "character U+0000 is not allowed (line 1)"),
        ("a: 1\nb: \x1b[2J", "character U+001B is not allowed (line 2)"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_refused_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_yaml(text, "recipe x")
    assert message in str(caught.value)
    assert str(caught.value).startswith("recipe x")
    assert "\n" not in str(caught.value)


def test_a_message_does_not_show_the_line_that_is_wrong() -> None:
    with pytest.raises(InputError) as caught:
        read_yaml("path: http://me:canary@host\n\tx: [canary", "it")
    assert "canary" not in str(caught.value)


def test_an_alias_bomb_is_refused_at_its_first_name() -> None:
    bomb = "a: &a [x, x, x]\n" + "".join(
        f"{n}: &{n} [*{p}, *{p}, *{p}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(InputError, match="line 1 names a value by &a"):
        read_yaml(bomb, "it")


#: Half a character, whole ones beyond 16 bits, and a number that no reader should try.
ODD = ("\ud800", "\udcff", "\U0001f600", "9" * 400)
#: What some reader of YAML takes for something else than text.
SURPRISES = """no|~|010|1:30|1e-4|0o17|089|1_000|<<|=|- x|#|a #b| x|x |*a|&a|!a|%a|@a|`a|{|[|? a|: a|a: b|...|---|'|"|\\
2026-08-01|.inf|null|true"""
texts = st.text(max_size=20) | st.sampled_from(
    [*SURPRISES.replace("\n", "|").split("|"), "", "a\nb", "\r", "\0", "\t", "\x1b", "\x85", "\u2028", "\ufeff", *ODD]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(values)
@example({"a": 1e16, "b": 1e-7, "c": 5e-324, "d": float("inf")})
def test_what_is_written_reads_back_to_the_same(value: object) -> None:
    written = write_yaml({"key": value})
    assert read_yaml(written, "it") == {"key": value}
    assert "\t" not in written.replace("\\t", "")


@given(texts)
def test_readers_of_yaml_1_1_read_the_same_text(text: str) -> None:
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        assert yaml.safe_load(write_yaml([text, {"key": text}])) == [text, {"key": text}]
