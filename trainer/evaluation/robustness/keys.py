"""Find what a character is mistaken for, in typing or in reading scanned pages."""

import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from trainer.evaluation.robustness.confusions import JAMO_LOOK_ALIKE, LOOK_ALIKE
from trainer.evaluation.robustness.layouts import KEYBOARDS, LAYOUTS
from trainer.evaluation.scoring.pieces import clusters

#: From a character to its possible replacements.
Alternatives = Callable[[str], Sequence[str]]

#: Position of each row's first key, in widths of a key (ISO/IEC 9995).
_ROW_STARTS = (0.0, 1.5, 1.75, 1.25)
#: Largest distance of touching keys in neighbouring rows.
_TOUCHING = 0.75
_CAPITALS_OF_I = {"i": "İ"}  # Turkish and Azerbaijani; ı becomes I everywhere

#: Parts of Hangul syllables in the order of their code points.
_INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = "_ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_FIRST_SYLLABLE = 0xAC00


@functools.cache
def keyboard_neighbours(language: str) -> Mapping[str, tuple[str, ...]]:
    """Return each character on the language's keyboards -> those of its kind (letter, mark, digit) on touching keys.

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
    """Return character -> position of its key (x, row): a plane without and one with Shift."""
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
    """Return the neighbours of a character's key, on the language's keyboards."""
    neighbours = keyboard_neighbours(language)

    def alternatives(character: str) -> Sequence[str]:
        if _is_hangul(character):
            return _of_syllable(character, neighbours)
        if character in neighbours:
            return neighbours[character]
        # A letter with accents is typed as its base letter, or with one accent less.
        parts = unicodedata.normalize("NFD", character)
        for end in range(len(parts) - 1, 0, -1):
            base = unicodedata.normalize("NFC", parts[:end])
            if base in neighbours:
                written = (unicodedata.normalize("NFC", other + parts[end:]) for other in neighbours[base])
                return [other for other in written if len(other) == 1]
        return ()

    return alternatives


def look_alikes(language: str) -> Alternatives:
    """Return a character's look-alikes; of letters, those on the language's keyboards where it has any."""
    alphabet = set(keyboard_neighbours(language))

    def alternatives(character: str) -> Sequence[str]:
        if _is_hangul(character):
            return _of_syllable(character, JAMO_LOOK_ALIKE)
        alike = LOOK_ALIKE.get(character, ())
        if alphabet:
            alike = tuple(other for other in alike if other in alphabet or other.isdigit())
        if alike or character.isascii():
            return alike
        base = unicodedata.normalize("NFD", character)[0]
        return (base,) if base != character and base.isalpha() else ()  # its accents are lost

    return alternatives


def _is_hangul(character: str) -> bool:
    return "\uac00" <= character <= "\ud7a3"


def _of_syllable(syllable: str, alike: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the syllable with one of its letters exchanged."""
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
    """Return a cluster with one of its characters exchanged for each alternative, where it stays one cluster."""
    found = []
    for place, character in enumerate(cluster):
        for other in alternatives(character):
            written = cluster[:place] + other + cluster[place + 1 :]
            if written != cluster and clusters(written) == [written]:
                found.append(written)
    return found
