"""Compute the target-oriented contrastive objective, Eq. 9: image sequences against summaries.

Shape suffixes as in shards/schema.py; N candidate summaries.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import Negatives
from models.losses import widen
from models.losses.gather import gather_rows, rank_and_ranks


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Summaries that anchors are compared with; groups and stories decide which are negatives of which anchor."""

    summary_ND: Tensor
    weight_N: Tensor  # 0: a placeholder, nobody's negative
    group_N: Tensor  # int64: negatives of the anchors of this group only
    story_N: Tensor  # int64: no negatives of the same story's anchors
    own_B: Tensor  # int64: where a row's own summary is among the N


def contrast_anchors(image_mask_BI: Tensor, weight_B: Tensor) -> Tensor:
    """Return the rows that Eq. 9 is a loss of, (B,) bool: real examples with at least one image."""
    return image_mask_BI.any(dim=1) & (weight_B > 0)


def target_oriented_contrast(
    vision_BD: Tensor,
    summary_BD: Tensor,
    anchor_B: Tensor,
    weight_B: Tensor,
    group_B: Tensor,
    story_B: Tensor,
    temperature: float,
    negatives: Negatives = "group",
) -> Tensor:
    """Return -log exp(sim(vis_i, sum_i) / tau) / sum_b exp(sim(vis_i, sum_b) / tau), Eq. 9, sim the cosine.

    Returns (B,) float32, zero where a row is no anchor. b runs over the anchor's own summary and its negatives:
    real rows that tell another story (the same story's summary in any row would be a false negative), of its group
    or, `global`, of all ranks' rows. The direction is image to summary only. Pooling as above Eq. 9; the summary
    states come from the text encoder before fusion, or the images would leak into their own target.

    `global` negatives are those of *one* micro-batch over all ranks: their number, and so the loss, depends on
    ranks x rows a micro-batch, where that of `group` depends on the recipe alone. They are gathered with gradient
    (`gather_rows`), so every rank calls this in every forward, with as many rows as the others.
    """
    if negatives == "group":
        own_B = torch.arange(len(summary_BD), device=summary_BD.device)
        candidates = Candidates(summary_ND=summary_BD, weight_N=weight_B, group_N=group_B, story_N=story_B, own_B=own_B)
    else:
        group_B = torch.zeros_like(group_B)  # as if all were one group
        candidates = _of_all_ranks(summary_BD, weight_B, story_B)
    return contrast(vision_BD, anchor_B, group_B, story_B, candidates, temperature)


def contrast(
    vision_BD: Tensor, anchor_B: Tensor, group_B: Tensor, story_B: Tensor, candidates: Candidates, temperature: float
) -> Tensor:
    """Return Eq. 9 of rows against `candidates`, (B,) float32, zero where a row is no anchor."""
    vision_BD = F.normalize(widen(vision_BD), dim=-1)
    summary_ND = F.normalize(widen(candidates.summary_ND), dim=-1)
    score_BN = vision_BD @ summary_ND.T / temperature
    own_BN = candidates.own_B[:, None] == torch.arange(len(summary_ND), device=summary_ND.device)
    negative_BN = (
        (group_B[:, None] == candidates.group_N)
        & (story_B[:, None] != candidates.story_N)
        & (candidates.weight_N > 0)
        & ~own_BN
    )
    lse_B = score_BN.masked_fill(~(own_BN | negative_BN), -torch.inf).logsumexp(dim=1)
    own_score_B = score_BN.gather(1, candidates.own_B[:, None]).squeeze(1)
    return torch.where(anchor_B, lse_B - own_score_B, 0.0)


def _of_all_ranks(summary_BD: Tensor, weight_B: Tensor, story_B: Tensor) -> Candidates:
    """Return all ranks' rows as candidates of one group. Collective."""
    rank, _ = rank_and_ranks()
    rows = len(summary_BD)
    # One collective for what has no gradient.
    weight_N, story_N = gather_rows(torch.stack([(weight_B > 0).long(), story_B], dim=1)).unbind(1)
    return Candidates(
        summary_ND=gather_rows(summary_BD),
        weight_N=weight_N,
        group_N=torch.zeros_like(story_N),
        story_N=story_N,
        own_B=torch.arange(rank * rows, (rank + 1) * rows, device=summary_BD.device),
    )
