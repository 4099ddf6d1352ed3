"""Choose the start tokens of mT5: the sentinel that begins a summary in a language.

mT5 has no language tokens; CrossSum re-uses its sentinels `<extra_id_N>`, and D2TV's release took over the same map.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from shards.errors import InputError
from shards.files.read import read_json
from shards.languages import LANGUAGE_CODES

#: published: CrossSum's map, or the one that the tokenizer's directory names.  alphabetical: from `<extra_id_0>` on in
#: the order of the languages' names, as earlier releases had it.
StartTokens = Literal["published", "alphabetical"]

#: language -> N of its `<extra_id_N>`: CrossSum's extra_tokens_langid_map.json (csebuetnlp/CrossSum, seq2seq).
CROSSSUM_SENTINELS: dict[str, int] = {
    "kirundi": 99,
    "indonesian": 98,
    "ukrainian": 97,
    "spanish": 96,
    "arabic": 95,
    "kyrgyz": 94,
    "thai": 93,
    "azerbaijani": 92,
    "uzbek": 91,
    "igbo": 90,
    "french": 89,
    "serbian_latin": 88,
    "vietnamese": 87,
    "marathi": 86,
    "pidgin": 85,
    "turkish": 84,
    "tigrinya": 83,
    "punjabi": 82,
    "swahili": 81,
    "somali": 80,
    "nepali": 79,
    "hindi": 78,
    "telugu": 77,
    "persian": 76,
    "scottish_gaelic": 75,
    "yoruba": 74,
    "welsh": 73,
    "gujarati": 72,
    "serbian_cyrillic": 71,
    "korean": 70,
    "english": 69,
    "sinhala": 68,
    "tamil": 67,
    "burmese": 66,
    "pashto": 65,
    "amharic": 64,
    "russian": 63,
    "japanese": 62,
    "urdu": 61,
    "portuguese": 60,
    "chinese_simplified": 59,
    "oromo": 58,
    "bengali": 57,
    "hausa": 56,
    "chinese_traditional": 55,
}


def sentinels_of(vocabulary: Mapping[str, int]) -> dict[int, str]:
    """Return N -> the token `<extra_id_N>` of a vocabulary; the published one's has a blank (`▁`) before it."""
    found: dict[int, str] = {}
    for token in sorted(vocabulary, reverse=True):  # the one with the blank comes first, and stays
        bare = token.removeprefix("▁")
        if bare.startswith("<extra_id_") and bare.endswith(">") and bare[10:-1].isdecimal():
            found.setdefault(int(bare[10:-1]), token)
    return found


def sentinel_starts(vocabulary: Mapping[str, int], directory: Path, kind: StartTokens) -> dict[str, int]:
    """Return language -> the id of its start token. `InputError` where the vocabulary has no token for one."""
    sentinels = sentinels_of(vocabulary)
    if kind == "alphabetical":
        numbers = dict(zip(LANGUAGE_CODES, sorted(sentinels), strict=False))
        missing = len(numbers) < len(LANGUAGE_CODES)
    else:
        numbers = CROSSSUM_SENTINELS
        own = named_starts(directory)
        if own is not None:
            return _named_ids(own, vocabulary, directory)
        missing = not sentinels.keys() >= set(numbers.values())
    if missing:
        raise InputError(
            f"the tokenizer in {directory} has {len(sentinels)} <extra_id_*> tokens, but each of "
            f"{len(LANGUAGE_CODES)} languages needs one of its own to start with: use mT5's, mBART-50's, or one that "
            "`d2tv prepare` trains"
        )
    return {language: vocabulary[sentinels[numbers[language]]] for language in LANGUAGE_CODES}


def named_starts(directory: Path) -> dict[str, str] | None:
    """Return language -> start token as the config.json in `directory` names them (`langid_map`, which CrossSum's
    trainer writes); None where it names none. `InputError` for one that is no such map."""
    try:
        config = read_json(directory / "config.json")
    except (OSError, ValueError):
        return None  # none, or a damaged one: loading the weights reports it
    found: Any = config.get("task_specific_params") if isinstance(config, dict) else None
    found = found.get("langid_map") if isinstance(found, dict) else None
    if found is None:
        return None
    starts: dict[str, str] = {}
    for language, entry in found.items() if isinstance(found, dict) else ():
        token = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
        if isinstance(token, str):
            starts[language] = token
    if not isinstance(found, dict) or len(starts) < len(found):
        raise InputError(
            f"{directory / 'config.json'}: task_specific_params.langid_map is no map of languages to tokens: copy it "
            "anew"
        )
    return starts


def unlike_start(directory: Path, tokens: Mapping[str, tuple[int, str]]) -> tuple[str, str, str] | None:
    """Return the first language that the config.json in `directory` names another start token for than `tokens`
    (`langid_map`), its token there and in `tokens`; None where there is none. Raises `InputError` as `named_starts`."""
    named = named_starts(directory) or {}
    unlike = ((language, named.get(language, token), token) for language, (_, token) in tokens.items())
    return next((found for found in unlike if found[1] != found[2]), None)


def langid_map(starts: Mapping[str, int], vocabulary: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """Return start tokens in the form of CrossSum's `langid_map`, which `named_starts` reads."""
    tokens = {number: token for token, number in vocabulary.items()}
    return {language: (place, tokens[number]) for place, (language, number) in enumerate(starts.items())}


def _named_ids(named: Mapping[str, str], vocabulary: Mapping[str, int], directory: Path) -> dict[str, int]:
    where = f"{directory / 'config.json'}: task_specific_params.langid_map"
    sentinels = sentinels_of(vocabulary)
    # What it leaves out has the published token.
    wanted = {language: sentinels.get(number, "") for language, number in CROSSSUM_SENTINELS.items()} | {
        language: token for language, token in named.items() if language in LANGUAGE_CODES
    }
    unknown = [f"{token} of {language}" for language, token in wanted.items() if token not in vocabulary]
    if unknown:
        raise InputError(f"{where}: the tokenizer beside it has no {unknown[0]}: copy both from one checkpoint")
    twice = [token for token in wanted.values() if list(wanted.values()).count(token) > 1]
    if twice:
        raise InputError(f"{where}: {twice[0]} begins the summaries of two languages: give each one of its own")
    return {language: vocabulary[wanted[language]] for language in LANGUAGE_CODES}
