"""Compute the distance between decoder states of teacher and student, Eqs. 5 and 7, and its schedule, Eq. 8.

Shape suffixes as in shards/schema.py; T selected target tokens.
"""

import torch.nn.functional as F
from torch import Tensor

from models.config import Distance
from models.losses import widen


def distillation_distance(teaching_TD: Tensor, learning_TD: Tensor, kind: Distance) -> Tensor:
    """Return dist(teaching, learning) per token, (T,) float32. Eq. 5 is teacher -> student, Eq. 7 the reverse.

    The paper leaves dist open ("e.g., KL and cosine similarity"):
        cosine  1 - cos(teaching, learning)
        mse     mean over the hidden dimension of the squared difference
        kl      KL(softmax(teaching) || softmax(learning)), softmax over the hidden dimension: the states are
                not distributions, and normalising over time or vocabulary would be another quantity
    teaching_TD must be detached: both sides are one network, and with gradients on both, a symmetric distance
    weighted alpha and 1 - alpha would not depend on alpha.
    """
    assert not teaching_TD.requires_grad, "detach the side that teaches"
    teaching_TD, learning_TD = widen(teaching_TD), widen(learning_TD)
    if kind == "cosine":
        return 1 - F.cosine_similarity(teaching_TD, learning_TD, dim=-1)
    if kind == "mse":
        return (teaching_TD - learning_TD).square().mean(dim=-1)
    return F.kl_div(
        learning_TD.log_softmax(dim=-1), teaching_TD.log_softmax(dim=-1), reduction="none", log_target=True
    ).sum(dim=-1)


def alpha(step: int, alpha_steps: int) -> float:
    """Return max(0.5, 1 - t / T1), Eq. 8. step: optimizer steps taken, t; alpha_steps: T1 (0.5 at T1 / 2)."""
    return max(0.5, 1 - step / alpha_steps)
