"""What perturbations cost: scores beside the clean ones, and MMI."""

from collections.abc import Mapping, Sequence
from statistics import fmean

#: Scores of one example, in per cent, by measure.
Scores = Mapping[str, float]


def impact(clean: float, perturbed: float) -> float | None:
    """MMI, (clean - perturbed) / clean: the share of the score that is lost, below 0 where it rose.

    None where the clean score is 0: there is nothing to lose (Qiu et al. leave the case open).
    """
    return (clean - perturbed) / clean if clean else None


def impacts(clean: Scores, perturbed: Scores) -> dict[str, float | None]:
    return {measure: impact(clean[measure], perturbed[measure]) for measure in clean}


def mean_impacts(severities: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """By measure over the severities, of those that have one; None where none has."""
    found: dict[str, float | None] = {}
    for measure in severities[0]:
        values = [value for of in severities if (value := of[measure]) is not None]
        found[measure] = fmean(values) if values else None
    return found
