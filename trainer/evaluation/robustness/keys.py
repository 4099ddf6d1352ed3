"""What a character is mistaken for: by a finger on a keyboard, or by a reader of scanned pages."""

import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from trainer.evaluation.robustness.confusions import JAMO_LOOK_ALIKE, LOOK_ALIKE
from trainer.evaluation.robustness.layouts import KEYBOARDS, LAYOUTS
from trainer.evaluation.robustness.text import is_cluster

#: From a character to what may stand in its place.
Alternatives = Callable[[str], Sequence[str]]

#: Where the first key of each row lies, in keys' widths (ISO/IEC 9995).
_ROW_STARTS = (0.0, 1.5, 1.75, 1.25)
#: Keys of neighbouring rows that are no further apart touch each other.
_TOUCHING = 0.75
_CAPITALS_OF_I = {"i": "İ"}  # Turkish and Azerbaijani; ı becomes I everywhere

#: Hangul syllables are made of these, in the order of their code points.
_INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = "_ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_FIRST_SYLLABLE = 0xAC00


@functools.cache
def keyboard_neighbours(language: str) -> Mapping[str, tuple[str, ...]]:
    """Each character on the language's keyboards -> those of the same kind (letter, mark, digit) on keys that touch.

    Empty for a language without a keyboard whose keys are characters.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in KEYBOARDS.get(language, ()):
        for plane in _planes(name):
            for character, (x, row) in plane.items():
                near = (
                    other
                    for other, (at, of) in plane.items()
                    if other != character and (abs(at - x) <= 1 if of == row else _touch(at - x, of - row))
                )
                kind = unicodedata.category(character)[0]
                same = tuple(other for other in near if unicodedata.category(other)[0] == kind)
                found.setdefault(character, same)
    return found


def _touch(across: float, rows: int) -> bool:
    return abs(rows) == 1 and abs(across) <= _TOUCHING


def _planes(name: str) -> list[dict[str, tuple[float, int]]]:
    """Character -> where its key lies (x, row); one plane without and one with Shift."""
    planes = []
    for plane in LAYOUTS[name]:
        places: dict[str, tuple[float, int]] = {}
        for row, (start, keys) in enumerate(zip(_ROW_STARTS, plane.split("/"), strict=True)):
            places |= {key: (start + place, row) for place, key in enumerate(keys.split()) if key != "·"}
        planes.append(places)
    if len(planes) == 1:
        capitals = _CAPITALS_OF_I if name in ("tr", "az") else {}
        planes.append({capitals.get(key, key.upper()): place for key, place in planes[0].items() if key.upper() != key})
    return planes


def near_keys(language: str) -> Alternatives:
    """What a finger hits beside a character's key, on the language's keyboards."""
    neighbours = keyboard_neighbours(language)

    def alternatives(character: str) -> Sequence[str]:
        if is_hangul(character):
            return _of_syllable(character, neighbours)
        if character in neighbours:
            return neighbours[character]
        # A letter with accents is typed as the letter that they stand on, or with one accent less.
        parts = unicodedata.normalize("NFD", character)
        for end in range(len(parts) - 1, 0, -1):
            base = unicodedata.normalize("NFC", parts[:end])
            if base in neighbours:
                written = (unicodedata.normalize("NFC", other + parts[end:]) for other in neighbours[base])
                return [other for other in written if len(other) == 1]
        return ()

    return alternatives


def look_alikes(language: str) -> Alternatives:
    """What a character looks like; of letters, those that the language's keyboards have where it has any."""
    alphabet = set(keyboard_neighbours(language))

    def alternatives(character: str) -> Sequence[str]:
        if is_hangul(character):
            return _of_syllable(character, JAMO_LOOK_ALIKE)
        alike = LOOK_ALIKE.get(character, ())
        if alphabet:
            alike = tuple(other for other in alike if other in alphabet or other.isdigit())
        if alike or character.isascii():
            return alike
        base = unicodedata.normalize("NFD", character)[0]
        return (base,) if base != character and base.isalpha() else ()  # its accents are lost

    return alternatives


def is_hangul(character: str) -> bool:
    """Whether it is a syllable."""
    return "\uac00" <= character <= "\ud7a3"


def _of_syllable(syllable: str, alike: Mapping[str, Sequence[str]]) -> list[str]:
    """The syllable with one of its letters exchanged."""
    rest, final = divmod(ord(syllable) - _FIRST_SYLLABLE, len(_FINALS))
    initial, vowel = divmod(rest, len(_VOWELS))
    found = []
    for letters, at, step in (
        (_INITIALS, initial, len(_VOWELS) * len(_FINALS)),
        (_VOWELS, vowel, len(_FINALS)),
        (_FINALS, final, 1),
    ):
        places = [letters.find(other) for other in alike.get(letters[at], ())]
        found += [chr(ord(syllable) + (place - at) * step) for place in places if place >= 0]
    return found


def exchanged(cluster: str, alternatives: Alternatives) -> list[str]:
    """A grapheme cluster with one of its characters exchanged for each alternative, as long as it stays one cluster."""
    found = []
    for place, character in enumerate(cluster):
        for other in alternatives(character):
            written = cluster[:place] + other + cluster[place + 1 :]
            if written != cluster and is_cluster(written):
                found.append(written)
    return found
