"""The 45 languages of CrossSum by name, with their BCP 47 codes.

Names are the keys everywhere on disk and in metrics, because CrossSum's own codes use `sr` for two
languages and a non-ISO `np`. Codes are accepted wherever a person types a language.
"""

from collections.abc import Iterable, Sequence

from shards.errors import InputError, did_you_mean

#: language name -> BCP 47 code, in alphabetical order of the names.
LANGUAGE_CODES: dict[str, str] = {
    "amharic": "am",
    "arabic": "ar",
    "azerbaijani": "az",
    "bengali": "bn",
    "burmese": "my",
    "chinese_simplified": "zh",
    "chinese_traditional": "zh-Hant",
    "english": "en",
    "french": "fr",
    "gujarati": "gu",
    "hausa": "ha",
    "hindi": "hi",
    "igbo": "ig",
    "indonesian": "id",
    "japanese": "ja",
    "kirundi": "rn",
    "korean": "ko",
    "kyrgyz": "ky",
    "marathi": "mr",
    "nepali": "ne",
    "oromo": "om",
    "pashto": "ps",
    "persian": "fa",
    "pidgin": "pcm",
    "portuguese": "pt",
    "punjabi": "pa",
    "russian": "ru",
    "scottish_gaelic": "gd",
    "serbian_cyrillic": "sr",
    "serbian_latin": "sr-Latn",
    "sinhala": "si",
    "somali": "so",
    "spanish": "es",
    "swahili": "sw",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "tigrinya": "ti",
    "turkish": "tr",
    "ukrainian": "uk",
    "urdu": "ur",
    "uzbek": "uz",
    "vietnamese": "vi",
    "welsh": "cy",
    "yoruba": "yo",
}

_NAME_OF_CODE = {code.lower(): name for name, code in LANGUAGE_CODES.items()}


def language_name(text: str) -> str:
    """The name of a language given by name or by code; `InputError` names the closest known one."""
    lowered = text.strip().lower()
    if lowered in LANGUAGE_CODES:
        return lowered
    if lowered in _NAME_OF_CODE:
        return _NAME_OF_CODE[lowered]
    known = [*LANGUAGE_CODES, *LANGUAGE_CODES.values()]
    raise InputError(f"unknown language {text!r}{did_you_mean(lowered, known)}; names and codes: shards/languages.py")


def languages_in_corpus(wanted: Iterable[str], present: Sequence[str]) -> list[str]:
    """`wanted` (names or codes) as names, in the order given; `InputError` if one is not in `present`."""
    names = [language_name(text) for text in wanted]
    for name in names:
        if name not in present:
            raise InputError(
                f"language {name!r} is not in the corpus, which has {len(present)}: {', '.join(sorted(present))}"
            )
    return names
