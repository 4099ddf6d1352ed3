"""Which of our 45 languages a text is in: CLD2 where it is sure, else py3langid, restricted to our languages.

CLD2 alone answers for few words too, if it must, and worse than py3langid does. Both know languages by code, and
neither knows all of ours:

- Chinese is Simplified or Traditional by the characters that only one of them has (those of GB 2312 that Big5 lacks,
  and the other way round); with none of either it is both. Chinese characters without kana are Chinese, not Japanese.
- Serbian is Cyrillic or Latin by its letters; Bosnian and Croatian are Serbian in Latin script here.
- CLD2 takes Pidgin for English; py3langid tells the two apart, and where it is not sure it is both. py3langid takes
  Tigrinya for Amharic; CLD2 tells these apart.
- Kinyarwanda stands for Kirundi and Malay for Indonesian: each pair is nearly one language, and one of the two is ours.
"""

import functools
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import regex

from shards.languages import LANGUAGE_CODES

_INVISIBLE = regex.compile(r"(?!\s)\p{C}")
#: White space that CLD2 takes for no UTF-8.
_STRANGE_BLANK = regex.compile(r"[\x0b\x0c\x1c-\x1f\x85]")
_LETTER = regex.compile(r"\p{L}")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
_HAN = regex.compile(r"\p{Han}")
_CYRILLIC = regex.compile(r"\p{Cyrillic}")
_LATIN = regex.compile(r"\p{Latin}")
_NEIGHBOURS = {"hr": "sr", "bs": "sr", "sr-ME": "sr", "rw": "rn", "ms": "id", "zh-Hant": "zh"}
_BY_CODE = {code: name for name, code in LANGUAGE_CODES.items()}
#: The likeliest of forty languages at less is nothing to go by: `BBC`, a single letter.
_A_GUESS = 0.2

Found = list[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Identified:
    """likeliest: the language, or the several that the writing does not tell apart; none where there are no words.

    confidence: the share of the text, or the probability, of each language that came into question.
    """

    likeliest: tuple[str, ...]
    confidence: Mapping[str, float]

    def confidence_in(self, language: str) -> float:
        """LaSE's language confidence: 1 for the likeliest, else how likely it is."""
        return 1.0 if language in self.likeliest else self.confidence.get(language, 0.0)

    def is_other_than(self, language: str) -> bool:
        """Whether the text is in another language; one that nobody can tell is not."""
        return bool(self.likeliest) and language not in self.likeliest

    def nearest(self, language: str) -> str | None:
        """The language's name: `language` itself where it is one of several."""
        return language if language in self.likeliest else next(iter(self.likeliest), None)


def identify(text: str) -> Identified:
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
    """The languages of these codes; nothing where the first of them is none of ours."""
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
    """py3langid of those of these languages that it knows."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(set(codes) & set(identifier.labels))
    return identifier
