"""Name the definitions of ROUGE that an evaluation may use, and find that of a recorded one. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

#: xlsum: xl-sum's `multilingual_rouge_scoring`, token for token, as in the published scores of CrossSum and D2TV.
#: normalized: the same for texts in the form that tokenizers keep (`normal.py`): `decode(encode(x))` costs nothing.
Profile = Literal["xlsum", "normalized"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
DEFAULT: Profile = "xlsum"
#: Profile of evaluations that do not name one: words in NFC, by rules of our own.
FORMER = "unicode"


def profile_of(facts: Any) -> str:
    """Return the profile that an evaluation's report or table names, else `FORMER`."""
    settings = facts.get("settings") if isinstance(facts, Mapping) else None
    profile = settings.get("rouge") if isinstance(settings, Mapping) else None
    return profile if isinstance(profile, str) else FORMER
