"""Decide which rows of a batch each of RC³'s tasks reads, from the batch alone (models/objectives/rc3.py).

A group is read as one kind of the paper's data (section 2.1) by its number, so that every kind has its share however
groups are spread over ranks and micro-steps. What a row is compared with is the next row of its group that tells
another story.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.network import real_rows
from models.objectives.rc3_config import Shares
from shards.batch.types import Batch

#: Fractional parts of its multiples are spread more evenly than those of any other number.
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Rows by task. Every row is cross-lingual and real."""

    named: list[int]  # strictly aligned, with images: MCLM
    pairs: list[int]  # of them and of the weakly aligned ones with images, those that have a partner: ITM, R-XVtCL
    partner: list[int]  # the row that each of `pairs` is compared with
    weak: frozenset[int]
    parallel: list[int]  # without images: XTCL
    negatives: list[list[int]]  # rows that each of `parallel` is compared with


def roles(batch: Batch, shares: Shares) -> Roles:
    """Return what the rows of a batch on the host are read as."""
    group, story = batch.group_B.tolist(), batch.story_B.tolist()
    mask = batch.source_summary_mask_BS
    assert mask is not None, "the configuration's `needs` asks for it"
    # The summary of an augmented source is its end token alone.
    told_B = (mask.sum(dim=1) > 1) & (batch.summary_mask_BN.sum(dim=1) > 1) & batch.cross_B
    seen_B = batch.image_mask_BI.any(dim=1)
    by_kind: dict[str, list[int]] = {"strict": [], "weak": [], "parallel": []}
    for row in real_rows(batch):
        kind = kind_of(group[row], shares)
        if batch.cross_B[row] and (kind == "weak" or told_B[row]) and (kind == "parallel" or seen_B[row]):
            by_kind[kind].append(row)
    pairs, partner = [], []
    for rows in (by_kind["strict"], by_kind["weak"]):
        for row in rows:
            if others := _others(row, rows, group, story):
                pairs.append(row)
                partner.append(next((other for other in others if other > row), others[0]))
    compared = {row: _others(row, by_kind["parallel"], group, story) for row in by_kind["parallel"]}
    parallel = [row for row, others in compared.items() if others]
    return Roles(
        named=by_kind["strict"],
        pairs=pairs,
        partner=partner,
        weak=frozenset(by_kind["weak"]),
        parallel=parallel,
        negatives=[compared[row] for row in parallel],
    )


def kind_of(group: int, shares: Shares) -> str:
    """Return the kind that a group's number stands for."""
    place = group * _GOLDEN % 1
    if place < shares.strict:
        return "strict"
    return "weak" if place < shares.strict + shares.weak else "parallel"


def _others(row: int, rows: Sequence[int], group: Sequence[int], story: Sequence[int]) -> list[int]:
    return [other for other in rows if group[other] == group[row] and story[other] != story[row]]


def hide(ids: int, share: float) -> torch.Tensor:
    """Draw the hidden places of a text of `ids` tokens: the share of them, at least one, never its end token."""
    return torch.randperm(ids - 1)[: hidden(ids, share)].sort().values


def hidden(ids: int, share: float) -> int:
    """Return how many places of a text of `ids` tokens are hidden."""
    return max(1, round(share * (ids - 1)))
