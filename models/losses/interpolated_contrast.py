"""Compute the contrast of Euclidean distances with interpolated negatives: RC³ (Zhou et al., 2023), Eqs. 4-7 and 9.

Eq. 5 draws a negative that is farther from the anchor than the positive towards the anchor: x* + lambda (x- - x*), with
lambda = (d+ / d-)^(zeta p). Its distance from the anchor x* is lambda d-, so no interpolated vector is ever made.

lambda carries no gradient. With d~ = lambda d- and e = zeta p, the derivative of Eq. 7 by d+ would else be the sum over
negatives of P(negative) (1 - e d~ / d+), P their softmax: a negative with d- / d+ > e^(-1 / (1 - e)), 2.9 at e = 0.9,
would push the positive away, and without bound as d+ goes to 0. As a number it leaves 1 - P(positive).

Shape suffixes as in shards/schema.py; N candidate representations, K negatives of an anchor, D their width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import widen


def interpolated_contrast(
    anchor_BD: Tensor,
    positive_BD: Tensor,
    candidate_ND: Tensor,
    index_BK: Tensor,
    counts_BK: Tensor,
    slack: float,
    probability: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Return Eq. 7 (Eq. 9 for images with text) and, detached, Eq. 4 of each anchor: (B,) float32 both.

    index_BK: int64, an anchor's negatives among the candidates.  counts_BK: bool, which of them are negatives at all;
    the others' indices are any valid ones. Further arguments as in `contrast_of_distances`.
    """
    positive_B = torch.linalg.vector_norm(widen(positive_BD) - widen(anchor_BD), dim=-1)
    negative_BK = distances(anchor_BD, candidate_ND, index_BK)
    return contrast_of_distances(positive_B, negative_BK, counts_BK, slack, probability)


def distances(anchor_BD: Tensor, candidate_ND: Tensor, index_BK: Tensor) -> Tensor:
    """Return each anchor's Euclidean distances from the candidates that `index_BK` names, (B, K) float32.

    Differences are squared, where |a|^2 - 2 a.b + |b|^2 would cancel for near points: (B, K, D) numbers, held once.
    Equal representations have distance 0 and gradient 0.
    """
    difference_BKD = F.embedding(index_BK, widen(candidate_ND)).sub_(widen(anchor_BD)[:, None])
    distance_BK: Tensor = torch.linalg.vector_norm(difference_BKD, dim=-1)
    return distance_BK


def contrast_of_distances(
    positive_B: Tensor, negative_BK: Tensor, counts_BK: Tensor, slack: float, probability: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return -log exp(-d+) / (exp(-d+) + sum_k exp(-lambda_k d-_k)), Eq. 7, and, detached, Eq. 4: (B,) float32 both.

    Eq. 4 is the same with lambda = 1. Both are 0 where an anchor has no negative. Eq. 9 lacks the logarithm in print.
    slack: zeta, 0.9 in the paper.  probability: p_avg of Eq. 6, a scalar, the mean over earlier steps of exp(-L), L the
    step's mean of Eq. 4. At 0 nothing is interpolated.
    """
    with torch.no_grad():
        # 0 / 0 is not chosen; a positive at distance 0 draws its negatives onto the anchor, unless the exponent is 0.
        drawn_BK = (positive_B[:, None] / negative_BK) ** (slack * probability)
        lambda_BK = torch.where(negative_BK > positive_B[:, None], drawn_BK, 1.0)
        plain_B = _contrast(positive_B, negative_BK, counts_BK)
    return _contrast(positive_B, lambda_BK * negative_BK, counts_BK), plain_B


def _contrast(positive_B: Tensor, negative_BK: Tensor, counts_BK: Tensor) -> Tensor:
    """Return log(1 + sum_k exp(d+ - d-_k))."""
    nearer_BK = (positive_B[:, None] - negative_BK).masked_fill(~counts_BK, -torch.inf)
    return F.pad(nearer_BK, (1, 0)).logsumexp(dim=1)
