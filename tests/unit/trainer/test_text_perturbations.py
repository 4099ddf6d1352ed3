"""Perturbations of texts: graphemes stay whole, more severity changes more, and each script slips in its own way."""

from collections import Counter

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shards.draws import seeded
from shards.languages import LANGUAGE_CODES
from tests.support.sentences import SENTENCES
from trainer.evaluation.robustness.keys import keyboard_neighbours, look_alikes, near_keys
from trainer.evaluation.robustness.kinds import KINDS, SEVERITIES, Kind
from trainer.evaluation.robustness.layouts import KEYBOARDS, LAYOUTS
from trainer.evaluation.scoring.pieces import sentences, words

TEXT_KINDS = [kind for kind in KINDS.values() if kind.change is not None]
#: Of every script, with marks in both orders, joiners, emoji and control characters between.
LANGUAGES = sorted(LANGUAGE_CODES)
CHARACTERS = "".join(SENTENCES.values()) + "👩‍👩‍👧🏽🇺🇦‍‌़́‎.!?。।؟\n\t ​ßİI0"
TEXTS = st.text(st.sampled_from(sorted(set(CHARACTERS))), max_size=60) | st.text(max_size=40)


def perturbed(kind: Kind, text: str, language: str, severity: int, seed: int = 0) -> str:
    assert kind.change is not None
    return kind.change(text, language, kind.strength(severity), seeded(seed, kind.name, "story", language))


def clusters(text: str) -> list[str]:
    found: list[str] = regex.findall(r"\X", text)
    return found


@pytest.mark.parametrize("kind", TEXT_KINDS, ids=lambda kind: kind.name)
@settings(max_examples=25)
@given(text=TEXTS, language=st.sampled_from(LANGUAGES), severity=st.sampled_from(SEVERITIES), seed=st.integers(0, 9))
def test_the_same_again_and_still_text(kind: Kind, text: str, language: str, severity: int, seed: int) -> None:
    once = perturbed(kind, text, language, severity, seed)
    assert once == perturbed(kind, text, language, severity, seed)
    assert bool(once.strip()) >= bool(text.strip() and any(map(str.isalnum, text)))
    if all(ord(character) not in range(0xD800, 0xE000) for character in text):
        once.encode()


@given(text=TEXTS, language=st.sampled_from(LANGUAGES), severity=st.sampled_from(SEVERITIES))
@example(text="0:0:0:0:0\x850´\u20280\r\n0", language="amharic", severity=3)
def test_graphemes_stay_whole(text: str, language: str, severity: int) -> None:
    before = clusters(text)
    for name in ("char_swap", "word_swap"):
        assert Counter(perturbed(KINDS[name], text, language, severity)) == Counter(text)
    for name in ("char_swap", "char_insert", "word_swap", "word_insert"):
        after = perturbed(KINDS[name], text, language, severity)
        for cluster, count in Counter(before).items():
            assert overlapping(after, cluster) >= count, (name, cluster)
    for name in ("char_delete", "word_delete", "sentence_drop"):
        assert is_left_of(perturbed(KINDS[name], text, language, severity), before), name
    parts = [part for part, _ in words(text, language)]
    assert "".join(parts) == text
    assert [cluster for part in parts for cluster in clusters(part)] == before
    assert "".join(body + space for body, space in sentences(text)) in (text, "")


def overlapping(text: str, part: str) -> int:
    return sum(text.startswith(part, at) for at in range(len(text)))


def is_left_of(after: str, before: list[str]) -> bool:
    """Return True if `after` is the clusters of `before`, in order, without some of them."""
    ends = {0}
    for cluster in before:
        ends |= {end + len(cluster) for end in ends if after.startswith(cluster, end)}
    return len(after) in ends


def difference(kind: Kind, one: str, other: str) -> int:
    """Characters more or fewer; of kinds that leave their number, words that are others."""
    if kind.name.endswith(("insert", "delete", "drop")):
        return abs(len(one) - len(other))
    return sum(mine != theirs for mine, theirs in zip(one.split(), other.split(), strict=True))


@pytest.mark.parametrize("kind", TEXT_KINDS, ids=lambda kind: kind.name)
def test_more_severity_changes_more(kind: Kind) -> None:
    assert list(kind.strengths) == sorted(set(kind.strengths))
    for language in ("english", "hindi", "russian"):
        text = ".\n".join(f"{SENTENCES[language]} {number} {SENTENCES[language]}" for number in range(12))
        changes = [difference(kind, text, perturbed(kind, text, language, severity)) for severity in SEVERITIES]
        assert 0 < 2 * changes[0] <= changes[-1]
        assert changes == sorted(changes), "who changes more of a text changes the same of it, and more"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_what_is_said_of_it(language: str) -> None:
    text = f"{SENTENCES[language]} {SENTENCES[language]}"
    for kind in TEXT_KINDS:
        changed = perturbed(kind, text, language, 5) != text
        if kind.family == "sentence":
            assert not changed  # it is one
        else:
            assert changed == kind.covers(language), kind.name
    assert (language in KEYBOARDS) == bool(keyboard_neighbours(language))
    assert {name for name in KEYBOARDS if name not in LANGUAGE_CODES} == set()
    assert set(LAYOUTS) == {name for names in KEYBOARDS.values() for name in names}


@pytest.mark.parametrize(
    ("language", "character", "near"),
    [
        ("english", "g", "fhtyvb"),
        ("english", "G", "FHTYVB"),
        ("english", "q", "wa"),
        ("french", "a", "zqé"),  # AZERTY: é is the key of 2
        ("turkish", "i", "şğü"),
        ("turkish", "İ", "ŞĞÜ"),
        ("turkish", "ı", "uojk"),
        ("russian", "к", "уева"),
        ("serbian_latin", "z", "tugh"),  # QWERTZ
        ("arabic", "ل", "باغفا"),
        ("hindi", "क", "रतगद"),
        ("hindi", "\u093e", "\u0948\u0940\u0947\u094d"),  # a mark for a mark: the keys beside aa are ai, ii, e, virama
        ("thai", "ก", "หดำพปแ"),
        ("vietnamese", "ế", "ấố"),  # ê beside â and ô on the digits, its tone stays
        ("korean", "강", "상당각간"),
    ],
)
def test_neighbours_on_the_keyboard(language: str, character: str, near: str) -> None:
    assert set(near) <= set(near_keys(language)(character))
    if len(near) > 3 and language in ("english", "russian"):
        assert set(near_keys(language)(character)) == set(near)


@pytest.mark.parametrize(
    ("language", "character", "alike"),
    [
        ("english", "l", "1Ii"),
        ("english", "é", "e"),
        ("ukrainian", "и", "йн"),
        ("arabic", "ب", "تثن"),
        ("urdu", "ب", "تثپٹن"),
        ("hindi", "घ", "ध"),
        ("amharic", "ለ", "ሉሊላሌልሎ"),
        ("chinese_simplified", "未", "末"),
        ("japanese", "シ", "ツ"),
        ("thai", "บ", "ป"),
        ("burmese", "ဝ", "၀"),
        ("korean", "각", "칵"),
    ],
)
def test_look_alikes_in_print(language: str, character: str, alike: str) -> None:
    found = set(look_alikes(language)(character))
    assert set(alike) <= found
    if language in ("arabic", "urdu"):
        assert found == set(alike), "a letter that the language's keyboards lack"


@pytest.mark.parametrize(
    ("kind", "language", "text", "expected"),
    [
        ("word_mask", "english", "Don't stop.", {"_'t stop.", "Don'_ stop.", "Don't _."}),
        ("word_delete", "english", "one two, three", {"two, three", "one, three", "one two,"}),
        (
            "word_delete",
            "chinese_simplified",
            "今天河里的水很冷",
            {"河里的水很冷", "今天的水很冷", "今天河里水很冷", "今天河里的很冷", "今天河里的水冷", "今天河里的水很"},
        ),
        ("word_swap", "thai", "วันนี้น้ำ", {"น้ำวันนี้"}),
        ("word_swap", "hindi", "ठंडा पानी", {"पानी ठंडा"}),
        ("char_swap", "hindi", "पानी", {"नीपा"}),
        ("char_delete", "korean", "강물", {"강", "물"}),
        ("char_insert", "tamil", "நீ", {"நீநீ"}),
        ("char_swap", "urdu", "آج", {"جآ"}),
        ("sentence_shuffle", "burmese", "ဟုတ်တယ်။ မဟုတ်ဘူး။", {"မဟုတ်ဘူး။ ဟုတ်တယ်။"}),
        ("sentence_shuffle", "urdu", "ایک ہے۔ دو ہیں؟", {"دو ہیں؟ ایک ہے۔"}),
        ("sentence_shuffle", "japanese", "雨です。晴れです！", {"晴れです！雨です。"}),
        ("sentence_drop", "amharic", "አንድ። ሁለት።", {"አንድ። ", "ሁለት።"}),
        ("ocr", "english", "rn", {"m", "nn", "hn", "rr", "rh"}),
    ],
)
def test_by_hand(kind: str, language: str, text: str, expected: set[str]) -> None:
    found = {perturbed(KINDS[kind], text, language, 1, seed) for seed in range(40)}
    assert found == expected


def test_what_cannot_change_stays() -> None:
    for kind in TEXT_KINDS:
        for text in ("", " \n", "!?", "👍🏽"):
            assert perturbed(kind, text, "english", 5) == text or kind.family == "word", kind.name
        assert perturbed(kind, "a", "english", 5)
    assert perturbed(KINDS["keyboard"], "今天", "chinese_simplified", 5) == "今天"
