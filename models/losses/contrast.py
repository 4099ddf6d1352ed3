"""The target-oriented contrastive objective, Eq. 9: an image sequence against the summaries of its group.

Shape suffixes as in shards/schema.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import widen


def contrast_anchors(image_mask_BI: Tensor, weight_B: Tensor) -> Tensor:
    """Rows that Eq. 9 is a loss of, (B,) bool: real examples with at least one image."""
    return image_mask_BI.any(dim=1) & (weight_B > 0)


def target_oriented_contrast(
    vision_BD: Tensor,
    summary_BD: Tensor,
    anchor_B: Tensor,
    weight_B: Tensor,
    group_B: Tensor,
    story_B: Tensor,
    temperature: float,
) -> Tensor:
    """-log exp(sim(vis_i, sum_i) / tau) / sum_b exp(sim(vis_i, sum_b) / tau), Eq. 9, sim the cosine.

    Returns (B,) float32, zero where a row is no anchor. b runs over the anchor's own summary and its negatives:
    real rows of its group that tell another story (the same story's summary in any row would be a false
    negative). The direction is image to summary only. Pooling as above Eq. 9 (`masked_mean`); the summary
    states come from the text encoder before fusion, or the images would leak into their own target.
    """
    vision_BD, summary_BD = F.normalize(widen(vision_BD), dim=-1), F.normalize(widen(summary_BD), dim=-1)
    score_BB = vision_BD @ summary_BD.T / temperature
    own_BB = torch.eye(len(score_BB), dtype=torch.bool, device=score_BB.device)
    negative_BB = (group_B[:, None] == group_B) & (story_B[:, None] != story_B) & (weight_B > 0)[None, :] & ~own_BB
    lse_B = score_BB.masked_fill(~(own_BB | negative_BB), -torch.inf).logsumexp(dim=1)
    return torch.where(anchor_B, lse_B - score_BB.diagonal(), 0.0)
