"""Test a study's claims: by the mean over directions, with one correction for all tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from launcher.study.definition import Claim, DirectionKind
from trainer.evaluation.bootstrap import Difference, holm, paired_bootstrap
from trainer.evaluation.compare.systems import Scores, by_direction

Verdict = Literal["holds", "may be chance", "not seen", "the contrary"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Test of a claim by one measure.  p: corrected.  directions: number of `of` whose means agree with the claim.

    seeds: number of seeds whose trainings agree with it.
    """

    claim: Claim
    measure: str
    difference: Difference
    p: float
    directions: int
    of: int
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """Return the verdict at 5%; "may be chance" has the claimed sign, "not seen" has not."""
        if self.p < 0.05:
            return "holds" if self.difference.mean > 0 else "the contrary"
        return "may be chance" if self.difference.mean > 0 else "not seen"


def check_claims(
    claims: Sequence[Claim],
    scores: Scores,
    by_seed: Sequence[Scores],
    measures: Sequence[str],
    *,
    samples: int,
    seed: int,
) -> list[Outcome]:
    """Test every claim by every measure, or by its own; leave out claims of directions that do not occur.

    by_seed: the scores of each seed's trainings alone.
    """
    found = []
    for claim in claims:
        groups = places_by_direction(scores, claim.kind)
        if not groups:
            continue
        places = [place for group in groups for place in group]
        weights = [1 / len(group) for group in groups for _ in group]
        stories = [scores.stories[place] for place in places]
        for measure in measures if claim.measure is None else (claim.measure,):
            than, better = (
                [scores.columns[name][measure][place] for place in places] for name in (claim.than, claim.better)
            )
            difference = paired_bootstrap(than, better, stories, weights=weights, samples=samples, seed=seed)
            won = sum(_gain(claim, scores, measure, group) > 0 for group in groups)
            seeds = sum(
                sum(_gain(claim, one, measure, group) for group in places_by_direction(one, claim.kind)) > 0
                for one in by_seed
            )
            found.append((claim, measure, difference, won, len(groups), seeds))
    corrected = holm([difference.p for _, _, difference, *_ in found]).tolist()
    return [
        Outcome(claim=claim, measure=measure, difference=difference, p=p, directions=won, of=count, seeds=seeds)
        for (claim, measure, difference, won, count, seeds), p in zip(found, corrected, strict=True)
    ]


def places_by_direction(scores: Scores, kind: DirectionKind) -> list[Sequence[int]]:
    """Return the places of the examples of each direction of a kind."""
    return [
        places
        for (source, target), places in by_direction(scores.keys)
        if kind == "all" or (source == target) == (kind == "mms")
    ]


def _gain(claim: Claim, scores: Scores, measure: str, places: Sequence[int]) -> float:
    better, than = (scores.columns[name][measure] for name in (claim.better, claim.than))
    return fmean(better[place] - than[place] for place in places)
