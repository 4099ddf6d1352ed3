"""Compute the divergence of relevance with an image from relevance of texts alone: RC³ (Zhou et al., 2023), Eqs. 10-12.

Shape suffixes: B anchors, C texts that an anchor is compared with (3 in the paper).
"""

import torch
from torch import Tensor

from models.losses import widen


def relevance_divergence(
    visual_text_distance_BC: Tensor, text_distance_BC: Tensor, counts_BC: Tensor, *, teach_texts: bool = False
) -> Tensor:
    """Return KL(P_vtr || P_tr) of each anchor in nats, Eq. 12, (B,) float32; P is softmax of the negative distances.

    visual_text_distance_BC: Eq. 11, distances from the anchor of its own image with each text.
    text_distance_BC: Eq. 10, distances of the texts alone.
    counts_BC: bool, which texts there are; with fewer than two the divergence is 0.
    teach_texts: whether P_tr, which says how near the others are to be, carries gradient too.
    """
    if not teach_texts:
        text_distance_BC = text_distance_BC.detach()
    log_p_BC = _log_relevance(visual_text_distance_BC, counts_BC)
    log_q_BC = _log_relevance(text_distance_BC, counts_BC)
    return (log_p_BC.exp() * (log_p_BC - log_q_BC)).masked_fill(~counts_BC, 0.0).sum(dim=-1)


def _log_relevance(distance_BC: Tensor, counts_BC: Tensor) -> Tensor:
    """Return the log-softmax of negative distances over what counts; finite everywhere, so that gradients are."""
    distance_BC = widen(distance_BC)
    return (-distance_BC).masked_fill(~counts_BC, torch.finfo(distance_BC.dtype).min).log_softmax(dim=-1)
