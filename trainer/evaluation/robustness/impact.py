"""Measure what perturbations cost: MMI, and the share of a score that comes from the document and from the images.

A share is MMI where every story's document (or images) is taken away, or exchanged for another story's.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from trainer.evaluation.bootstrap import paired_bootstrap
from trainer.evaluation.robustness.kinds import SOURCES
from trainer.evaluation.scoring.rouge import NAMES

#: Scores of one example, in per cent, by measure.
Scores = Mapping[str, float]

#: The measure of shares by default.
MEASURE = "rouge1"
_CHANCE = 0.05


def impact(clean: float, perturbed: float) -> float | None:
    """Return MMI, (clean - perturbed) / clean: the share of the score that is lost, below 0 where it rose.

    None where the clean score is 0 (Qiu et al. leave the case open).
    """
    return (clean - perturbed) / clean if clean else None


def mean_impacts(severities: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return measure -> mean over the severities that have an impact; None where none has."""
    found: dict[str, float | None] = {}
    for measure in severities[0]:
        values = [value for of in severities if (value := of[measure]) is not None]
        found[measure] = fmean(values) if values else None
    return found


def lost_shares(clean: Sequence[Scores], perturbed: Sequence[Scores], stories: Sequence[str]) -> dict[str, Any]:
    """Return measure -> the share of the clean mean that is lost, its 95% interval, and p.

    A share is None where the clean mean is 0.
    """
    number = {story: place for place, story in enumerate(sorted(set(stories)))}
    found: dict[str, Any] = {}
    for measure in clean[0]:
        before = [scores[measure] for scores in clean]
        after = [scores[measure] for scores in perturbed]
        mean = sum(before) / len(before)
        d = paired_bootstrap(before, after, [number[story] for story in stories])
        found[measure] = {
            "share": impact(mean, mean + d.mean),
            "low": impact(mean, mean + d.high),
            "high": impact(mean, mean + d.low),
            "p": float(d.p),
        }
    return found


def sources(kinds: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return document, images -> losses by `exchanged` and `removed`, where they were measured, and `ignored`.

    kinds: a report's. ignored: True if the model scores as well with another story's, by paired bootstrap (or, if that
    was not measured, with none).
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
    """Return the shares on a line, as `document 62% of ROUGE-1 (another's: 60%), images 5%`, and ignored sources."""
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
    lines = [", ".join(parts)]
    for source, of in found.items():
        if of["ignored"]:
            how = "another story's" if "exchanged" in of else "none"
            p = of.get("exchanged", of.get("removed"))[MEASURE]["p"]
            lines.append(f"↓ the model ignores its {source}: with {how} it scores as well (p {p:.2f})")
    return lines


def _percent(lost: Mapping[str, Any]) -> str:
    return "–" if lost["share"] is None else f"{lost['share']:.0%}"
