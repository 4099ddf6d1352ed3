"""Identify which of the 45 languages a text is in: by CLD2 where it is sure, else by py3langid, restricted to them.

On few words CLD2 is worse than py3langid. Both know languages by code, and neither knows all of ours:

- Chinese is Simplified or Traditional by the characters that only one of them has (those of GB 2312 that Big5 lacks,
  and the other way round); with none of either it is both. Chinese characters without kana are Chinese, not Japanese.
- Serbian is Cyrillic or Latin by its letters; Bosnian and Croatian are Serbian in Latin script here.
- CLD2 takes Pidgin for English; py3langid tells the two apart, and where it is not sure it is both. py3langid takes
  Tigrinya for Amharic; CLD2 tells these apart.
- Kinyarwanda stands for Kirundi and Malay for Indonesian: each pair is nearly one language, and one of the two is ours.
"""

import copy
import functools
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import regex

from shards.languages import LANGUAGE_CODES

_INVISIBLE = regex.compile(r"(?!\s)\p{C}")
#: White space that CLD2 refuses as UTF-8.
_STRANGE_BLANK = regex.compile(r"[\x0b\x0c\x1c-\x1f\x85]")
_LETTER = regex.compile(r"\p{L}")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
_HAN = regex.compile(r"\p{Han}")
_CYRILLIC = regex.compile(r"\p{Cyrillic}")
_LATIN = regex.compile(r"\p{Latin}")
_NEIGHBOURS = {"hr": "sr", "bs": "sr", "sr-ME": "sr", "rw": "rn", "ms": "id", "zh-Hant": "zh"}
_BY_CODE = {code: name for name, code in LANGUAGE_CODES.items()}
#: A likeliest language below this probability is a guess: `BBC`, a single letter.
_A_GUESS = 0.2

Found = list[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Identified:
    """The outcome for a text.

    likeliest: the language, or several that the script does not distinguish; none where there are no words.
    confidence: the share of the text, or the probability, of each candidate.
    """

    likeliest: tuple[str, ...]
    confidence: Mapping[str, float]

    def confidence_in(self, language: str) -> float:
        """Return LaSE's language confidence: 1 for the likeliest, else its probability."""
        return 1.0 if language in self.likeliest else self.confidence.get(language, 0.0)

    def is_other_than(self, language: str) -> bool:
        """Return True if the text is in another language; False where it is not known."""
        return bool(self.likeliest) and language not in self.likeliest

    def nearest(self, language: str) -> str | None:
        """Return the likeliest language: `language` where it is among them."""
        return language if language in self.likeliest else next(iter(self.likeliest), None)


def identify(text: str) -> Identified:
    """Return the language of a text."""
    visible = unicodedata.normalize("NFC", _STRANGE_BLANK.sub(" ", _INVISIBLE.sub("", text)))
    if not _LETTER.search(visible):
        return Identified((), {})
    found = _by_cld2(visible) or _by_py3langid(visible)
    if not found:
        return Identified((), {})
    confidence: dict[str, float] = {}
    for names, share in found:
        for name in names:
            confidence[name] = confidence.get(name, 0.0) + share
    return Identified(found[0][0], confidence)


def _by_cld2(text: str, *, at_any_rate: bool = False) -> Found:
    import pycld2

    _, _, details = pycld2.detect(text, isPlainText=True, bestEffort=at_any_rate)
    return _of_ours([(code, percent / 100) for _, code, percent, _ in details], text)


def _by_py3langid(text: str) -> Found:
    ranked = _restricted(*_NEIGHBOURS, *_BY_CODE).rank(text)
    code, probability = ranked[0]
    if probability < _A_GUESS:
        return []
    return (_by_cld2(text, at_any_rate=True) if code == "am" else []) or _of_ours(ranked, text)


def _of_ours(ranked: list[tuple[str, float]], text: str) -> Found:
    """Return the languages of these codes; none where the first code is none of ours."""
    found: Found = []
    for code, share in ranked:
        names = _names(code, text)
        if not names:
            if not found:
                return []
            continue
        found.append((names, share))
    return found


def _names(code: str, text: str) -> tuple[str, ...]:
    code = _NEIGHBOURS.get(code, code)
    if code == "zh" or (code == "ja" and not _KANA.search(text) and _HAN.search(text)):
        return _chinese(text)
    if code == "sr":
        cyrillic = len(_CYRILLIC.findall(text)) > len(_LATIN.findall(text))
        return ("serbian_cyrillic",) if cyrillic else ("serbian_latin",)
    if code in ("en", "pcm"):
        pidgin = dict(_restricted("en", "pcm").rank(text))["pcm"]
        return ("english",) if pidgin < 0.25 else ("pidgin",) if pidgin > 0.75 else ("english", "pidgin")
    return (_BY_CODE[code],) if code in _BY_CODE else ()


def _chinese(text: str) -> tuple[str, ...]:
    simplified = traditional = 0
    for character in _HAN.findall(text):
        in_simplified, in_traditional = _is_in(character, "gb2312"), _is_in(character, "big5")
        simplified += in_simplified and not in_traditional
        traditional += in_traditional and not in_simplified
    if simplified == traditional:
        return ("chinese_simplified", "chinese_traditional")
    return ("chinese_simplified",) if simplified > traditional else ("chinese_traditional",)


@functools.lru_cache(maxsize=1 << 15)
def _is_in(character: str, charset: str) -> bool:
    try:
        character.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


@functools.cache
def _restricted(*codes: str) -> Any:
    """Return py3langid restricted to those of these codes that it knows."""
    identifier = copy.copy(_py3langid())
    identifier.set_languages(set(codes) & set(identifier.labels))
    return identifier


@functools.cache
def _py3langid() -> Any:
    """Read py3langid's model, which is compressed: most of a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
