"""Whether what is claimed of a study's models is so: by the mean over directions, with one correction for all tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from launcher.study.definition import Claim, DirectionKind
from trainer.evaluation.bootstrap import Difference, holm, paired_bootstrap
from trainer.evaluation.compare.systems import Scores, by_direction

Verdict = Literal["holds", "may be chance", "not seen", "the contrary"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Of a claim by one measure.  p: corrected.  directions: in how many of `of` it is so, by their means.

    seeds: in how many trainings of both with one seed it is so.
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
        """At 5%: "may be chance" is of the claimed sign, "not seen" is not."""
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
    """by_seed: the scores of each seed's trainings alone. A claim of directions that there are none of is left out."""
    found = []
    for claim in claims:
        groups = [places for direction, places in by_direction(scores.keys) if is_of_kind(claim.kind, direction)]
        if not groups:
            continue
        places = [place for group in groups for place in group]
        weights = [1 / len(group) for group in groups for _ in group]
        of_seeds = [
            [group for direction, group in by_direction(one.keys) if is_of_kind(claim.kind, direction)]
            for one in by_seed
        ]
        stories = [scores.stories[place] for place in places]
        for measure in measures:
            than, better = (
                [scores.columns[name][measure][place] for place in places] for name in (claim.than, claim.better)
            )
            difference = paired_bootstrap(than, better, stories, weights=weights, samples=samples, seed=seed)
            won = sum(_gain(claim, scores, measure, [group]) > 0 for group in groups)
            seeds = sum(_gain(claim, one, measure, own) > 0 for one, own in zip(by_seed, of_seeds, strict=True))
            found.append((claim, measure, difference, won, len(groups), seeds))
    corrected = holm([difference.p for _, _, difference, *_ in found]).tolist()
    return [
        Outcome(claim=claim, measure=measure, difference=difference, p=p, directions=won, of=count, seeds=seeds)
        for (claim, measure, difference, won, count, seeds), p in zip(found, corrected, strict=True)
    ]


def is_of_kind(kind: DirectionKind, direction: tuple[str, str]) -> bool:
    return kind == "all" or (direction[0] == direction[1]) == (kind == "mms")


def _gain(claim: Claim, scores: Scores, measure: str, groups: Sequence[Sequence[int]]) -> float:
    better, than = (scores.columns[name][measure] for name in (claim.better, claim.than))
    return sum(sum(better[place] - than[place] for place in group) / len(group) for group in groups) / len(groups)
