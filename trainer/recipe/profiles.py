"""The definitions of ROUGE that an evaluation may use, and which of them a recorded one used. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

#: xlsum: xl-sum's `multilingual_rouge_scoring`, token for token, as published scores of CrossSum and D2TV are.
#: normalized: the same of texts in the form that tokenizers keep (`normal.py`): what `decode(encode(x))` loses is no
#: difference.
Profile = Literal["xlsum", "normalized"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
DEFAULT: Profile = "xlsum"
#: What evaluations were scored with before they said it: words in NFC, by rules of our own.
FORMER = "unicode"

#: Measures that count no words, and are the same in every profile.
WITHOUT_WORDS = frozenset(
    {"language_confidence", "wrong_language", "wrong_language_reference", "meaning_similarity", "bertscore"}
)


def profile_of(facts: Any) -> str:
    """Return the profile of what an evaluation's report or table says it is of; `FORMER` where it does not say it."""
    settings = facts.get("settings") if isinstance(facts, Mapping) else None
    profile = settings.get("rouge") if isinstance(settings, Mapping) else None
    return profile if isinstance(profile, str) else FORMER
