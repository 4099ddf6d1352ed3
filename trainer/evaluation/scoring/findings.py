"""What an evaluation says of its ROUGE beside the scores: the profile, and which texts could not be scored by it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.recipe.profiles import profile_of

if TYPE_CHECKING:
    from trainer.evaluation.scoring.measures import Measured, Pair

_SHOWN = 5


def findings(profile: str, pairs: Sequence["Pair"], measured: Sequence["Measured"]) -> dict[str, Any]:
    """Return the part `rouge` of a report.

    profile: as in profiles.py.  empty_predictions, empty_references: by target language, how many have no token (an
    empty prediction scores 0; what has an empty reference is in no mean).  no_segmenter: language -> of how many
    examples it is the target, whose words ROUGE counts, and the source, whose words novelty does; why it is missing.
    """
    predictions: Counter[str] = Counter()
    references: Counter[str] = Counter()
    uncut: Counter[str] = Counter()
    uncut_documents: Counter[str] = Counter()
    why: dict[str, str] = {}
    for pair, one in zip(pairs, measured, strict=True):
        predictions[pair.target] += one.empty_prediction
        references[pair.target] += one.empty_reference
        for name, reason in one.uncut:
            uncut[name] += name == pair.target
            uncut_documents[name] += name == pair.source
            why[name] = reason
    return {
        "profile": profile,
        "empty_predictions": {name: count for name, count in sorted(predictions.items()) if count},
        "empty_references": {name: count for name, count in sorted(references.items()) if count},
        "no_segmenter": {
            name: {"references": uncut[name], "documents": uncut_documents[name], "why": why[name]}
            for name in sorted(why)
        },
    }


def profile_in(report: Mapping[str, Any]) -> str:
    """Return the profile of a report of any release."""
    profile = _part(report, "profile")
    return profile if isinstance(profile, str) else profile_of(report)


def lines(report: Mapping[str, Any]) -> list[str]:
    """Tell in a line each what could not be scored; none where all could, and of releases that did not count it."""
    found = []
    if counts := _counts(report, "empty_predictions"):
        found.append(f"{_total(counts)} predictions without a word score 0 ({_shown(counts)})")
    if counts := _counts(report, "empty_references"):
        found.append(f"{_total(counts)} references without a word: their examples are in no mean ({_shown(counts)})")
    missing = _part(report, "no_segmenter")
    for language, of in missing.items() if isinstance(missing, dict) else ():
        if isinstance(of, dict):
            missed = f"{of.get('references', '?')} examples have no ROUGE, {of.get('documents', '?')} no novelty"
            found.append(f"{missed}: {language}: {of.get('why', '?')}")
    return found


def _part(report: Mapping[str, Any], key: str) -> Any:
    section = report.get("rouge")
    return section.get(key) if isinstance(section, Mapping) else None


def _counts(report: Mapping[str, Any], key: str) -> dict[str, int]:
    counts = _part(report, key)
    return {name: of for name, of in counts.items() if type(of) is int} if isinstance(counts, dict) else {}


def _total(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values()):,}"


def _shown(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    rest = len(most) - _SHOWN
    return ", ".join(f"{name} {count:,}" for name, count in most[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
