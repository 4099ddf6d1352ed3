"""Which share of a score comes from the document and which from the images: what is lost without them.

A share is MMI where every story's document (or images) is taken away, or exchanged for another story's. A model that
scores as well with another story's, by paired bootstrap over stories, ignores its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.evaluation.compare.bootstrap import paired_bootstrap
from trainer.evaluation.robustness.impact import Scores, impact
from trainer.evaluation.robustness.kinds import SOURCES, Kind
from trainer.evaluation.scoring.rouge import NAMES

#: What a share is of by default.
MEASURE = "rouge1"
_CHANCE = 0.05


def is_whole(kind: Kind, severity: int) -> bool:
    """Return True if at this severity nothing of what a score may come from is left."""
    return any(kind.name in names for names in SOURCES.values()) and kind.strength(severity) == 1


def lost_shares(clean: Sequence[Scores], perturbed: Sequence[Scores], stories: Sequence[str]) -> dict[str, Any]:
    """Measure -> the share of the clean mean that is lost, where 95% of the resampled shares lie, and p.

    A share is None where the clean mean is 0.
    """
    number = {story: place for place, story in enumerate(sorted(set(stories)))}
    told: dict[str, Any] = {}
    for measure in clean[0]:
        before = [scores[measure] for scores in clean]
        after = [scores[measure] for scores in perturbed]
        mean = sum(before) / len(before)
        d = paired_bootstrap(before, after, [number[story] for story in stories])
        told[measure] = {
            "share": impact(mean, mean + d.mean),
            "low": impact(mean, mean + d.high),
            "high": impact(mean, mean + d.low),
            "p": float(d.p),
        }
    return told


def sources(kinds: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return document, images -> what is lost by `exchanged` and `removed`, where they were measured, and `ignored`.

    ignored: whether the model scores as well with another's (or, if that was not measured, with none).
    kinds: a report's.
    """
    found: dict[str, dict[str, Any]] = {}
    for source, (exchange, removal) in SOURCES.items():
        parts = {
            how: {"examples": kinds[name]["examples"], **kinds[name]["whole"]}
            for how, name in (("exchanged", exchange), ("removed", removal))
            if kinds.get(name, {}).get("whole")
        }
        if parts:
            decisive = parts.get("exchanged") or parts["removed"]
            found[source] = {**parts, "ignored": bool(decisive[MEASURE]["p"] >= _CHANCE)}
    return found


def describe_sources(found: Mapping[str, Any], measure: str = MEASURE) -> list[str]:
    """Say the shares on a line, such as `document 62% of ROUGE-1 (another's: 60%), images 5%`, and what is ignored."""
    if not found:
        return []
    parts: list[str] = []
    for source, of in found.items():
        first, second = of.get("removed"), of.get("exchanged")
        text = f"{source} {_percent((first or second)[measure])}"
        if not parts:
            text += f" of {NAMES[measure]}"
        if first and second:
            text += f" (another story's: {_percent(second[measure])})"
        elif second:
            text += " (with another story's)"
        parts.append(text)
    told = [", ".join(parts)]
    for source, of in found.items():
        if of["ignored"]:
            how = "another story's" if "exchanged" in of else "none"
            p = of.get("exchanged", of.get("removed"))[MEASURE]["p"]
            told.append(f"↓ the model ignores its {source}: with {how} it scores as well (p {p:.2f})")
    return told


def _percent(lost: Mapping[str, Any]) -> str:
    return "–" if lost["share"] is None else f"{lost['share']:.0%}"
