"""Name the 45 languages of CrossSum, with their BCP 47 codes.

Names are the keys everywhere on disk and in metrics, because CrossSum's own codes use `sr` for two
languages and a non-ISO `np`. Codes are accepted wherever a person types a language, CrossSum's as well.
"""

import difflib
from collections.abc import Iterable, Sequence

from shards.errors import InputError

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

#: Other codes for them: CrossSum's own, and those of BCP 47 that say the script in full or by the country.
_OTHER_CODES = {
    "np": "nepali",
    "sr-cyrl": "serbian_cyrillic",
    **dict.fromkeys(("zh-cn", "zh-sg", "zh-hans", "zh-hans-cn", "zh-hans-sg"), "chinese_simplified"),
    **dict.fromkeys(
        ("zh-tw", "zh-hk", "zh-mo", "zh-hant-tw", "zh-hant-hk", "zh-hant-mo"),
        "chinese_traditional",
    ),
}
_NAME_OF_CODE = {code.lower(): name for name, code in LANGUAGE_CODES.items()} | _OTHER_CODES
#: What begins with one of these may be any of its languages, which are of different scripts.
_SCRIPTS = {
    prefix: [name for name in LANGUAGE_CODES if name.startswith(family)]
    for family, prefixes in {"chinese_": ("chinese", "zh"), "serbian_": ("serbian", "sr")}.items()
    for prefix in prefixes
}


def language_name(text: str) -> str:
    """Return the name of a language given by name or by code, in any case, with "_", "-" or spaces in it.

    Raises: InputError, which suggests a name that is close. Of a language with two scripts it suggests both.
    """
    name = find_language(text)
    if name is None:
        raise InputError(f"unknown language {text!r}{_suggestion(text)}; names and codes: shards/languages.py")
    return name


def find_language(text: str) -> str | None:
    """Return the name of a language as `language_name` does; None for what is none."""
    words = "-".join(text.lower().replace("_", " ").split())
    name = words.replace("-", "_")
    return name if name in LANGUAGE_CODES else _NAME_OF_CODE.get(words)


def _suggestion(text: str) -> str:
    """Suggest names. Codes of two letters are never close enough: that of another language is one letter away."""
    lowered = "_".join(text.lower().replace("-", " ").replace("_", " ").split())
    first = lowered.partition("_")[0]
    if first in _SCRIPTS:
        names = _SCRIPTS[first]
    elif len(lowered) < 5 or "_" in lowered[:4]:  # a code
        names = []
    else:
        close = difflib.get_close_matches(lowered, [*LANGUAGE_CODES, "chinese", "serbian"], n=1, cutoff=0.8)
        names = next((_SCRIPTS[prefix] for prefix in _SCRIPTS if close and close[0].startswith(prefix)), close)
    return f" (did you mean {' or '.join(map(repr, names))}?)" if names else ""


def languages_in_corpus(wanted: Iterable[str], present: Sequence[str]) -> list[str]:
    """Return `wanted` (names or codes) as names, in the order given; `InputError` if one is not in `present`."""
    names = [language_name(text) for text in wanted]
    for name in names:
        if name not in present:
            raise InputError(
                f"language {name!r} is not in the corpus, which has {len(present)}: {', '.join(sorted(present))}"
            )
    return names
