"""Bound mutual information by contrast within classes, and divergence of predictions: AMID (Chen et al., 2023).

Shape suffixes as in shards/schema.py; R the width of representations, C classes. A row's candidates are the rows of its
group that take part, itself among them: N + k of the paper, of which k have its class.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import widen

#: Largest log h for which log(1 - h) is computed: at 0 there is no gradient, and 1e-6 is nearly all of a candidate.
_NEARLY_ALL = -1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Pairs of rows that are compared. A row that takes no part has none."""

    beside_BB: Tensor  # bool: the candidates of a row
    same_BB: Tensor  # bool: those of its class

    def to(self, device: torch.device) -> "Candidates":
        """Return the same on `device`, without waiting for it."""
        beside_BB, same_BB = (pairs.to(device, non_blocking=True) for pairs in (self.beside_BB, self.same_BB))
        return Candidates(beside_BB=beside_BB, same_BB=same_BB)


def similarities(teacher_BR: Tensor, other_BR: Tensor) -> Tensor:
    """Return the cosine Phi (B, B) float32 of each row's representation by the teacher with each one's by another."""
    return F.normalize(widen(teacher_BR), dim=-1) @ F.normalize(widen(other_BR), dim=-1).T


def class_contrast(cosine_BB: Tensor, candidates: Candidates, temperature: float) -> Tensor:
    """Return the summands of Eqs. 8 and 9, -sum_j log h(M_i, S_j) - sum_l log(1 - h(M_i, S_l)): (B,) float32.

    h is the softmax over a row's candidates (Eq. 7), j runs over those of its class, l over the others. 0 for a row
    without candidates. A row that is its only candidate has h = 1, and 0 as well.
    """
    log_BB = _log_shares(cosine_BB, candidates, temperature)
    other_BB = candidates.beside_BB & ~candidates.same_BB
    # What is not summed is replaced first: a masked infinity would have a gradient that is no number.
    rest_BB = torch.where(other_BB, log_BB, -1.0).clamp(max=_NEARLY_ALL)
    others_BB = torch.where(other_BB, torch.log(-torch.expm1(rest_BB)), 0.0)
    return -(torch.where(candidates.same_BB, log_BB, 0.0) + others_BB).sum(dim=1)


def class_nce(cosine_BB: Tensor, candidates: Candidates, temperature: float) -> Tensor:
    """Return -sum_j log h(M_i, S_j), (B,) float32: Eq. 8 without its negatives, the contrast L_nce of Table 4."""
    log_BB = _log_shares(cosine_BB, candidates, temperature)
    return -torch.where(candidates.same_BB, log_BB, 0.0).sum(dim=1)


def _log_shares(cosine_BB: Tensor, candidates: Candidates, temperature: float) -> Tensor:
    """Return log h, Eq. 7; any value where a row has no such candidate."""
    # A row without any keeps itself, for a softmax of nothing is no number.
    kept_BB = candidates.beside_BB | torch.eye(len(cosine_BB), dtype=torch.bool, device=cosine_BB.device)
    return F.log_softmax((cosine_BB / temperature).masked_fill(~kept_BB, -torch.inf), dim=1)


def prediction_divergence(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Return JSD(P_S || P_M) in nats, Eq. 16, (B,) float32, of the classes' logits. Both sides learn."""
    student_BC, teacher_BC = (F.log_softmax(widen(logits_BC), dim=-1) for logits_BC in (student_BC, teacher_BC))
    mean_BC = torch.logaddexp(student_BC, teacher_BC) - torch.log(torch.full_like(student_BC, 2.0))
    return sum(
        (0.5 * (of_BC.exp() * (of_BC - mean_BC)).sum(dim=1) for of_BC in (student_BC, teacher_BC)),
        student_BC.new_zeros(len(student_BC)),
    )
