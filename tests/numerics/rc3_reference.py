"""RC³'s losses as its paper has them, an anchor at a time: Eqs. 4-7 and 9-12. Imports nothing of the code it judges."""

import torch
from torch import Tensor


def distance(x: Tensor, y: Tensor) -> Tensor:
    """The Euclidean distance, coordinate by coordinate."""
    return torch.sqrt(sum(((a - b) ** 2 for a, b in zip(x, y, strict=True)), torch.zeros(()).double()))


def plain_contrast(anchor: Tensor, positive: Tensor, negatives: list[Tensor]) -> Tensor:
    """Eq. 4."""
    near = torch.exp(-distance(positive, anchor))
    total = near
    for negative in negatives:
        total = total + torch.exp(-distance(negative, anchor))
    return -torch.log(near / total)


def interpolate(anchor: Tensor, positive: Tensor, negative: Tensor, exponent: float) -> Tensor:
    """Eqs. 5 and 6; lambda is a number."""
    d_positive, d_negative = (distance(x, anchor).item() for x in (positive, negative))
    if d_negative <= d_positive:
        return negative
    return anchor + (d_positive / d_negative) ** exponent * (negative - anchor)


def interpolated_contrast(
    anchor: Tensor, positive: Tensor, negatives: list[Tensor], slack: float, probability: float
) -> Tensor:
    """Eq. 7, and Eq. 9 with the logarithm that a loss has."""
    harder = [interpolate(anchor, positive, negative, slack * probability) for negative in negatives]
    return plain_contrast(anchor, positive, harder)


def relevance(distances: list[Tensor]) -> list[Tensor]:
    """Eqs. 10 and 11."""
    near = [torch.exp(-one) for one in distances]
    return [one / sum(near) for one in near]


def divergence(visual_text: list[Tensor], text: list[Tensor]) -> Tensor:
    """The second summand of Eq. 12."""
    total = torch.zeros(()).double()
    for p, q in zip(relevance(visual_text), relevance(text), strict=True):
        total = total + p * torch.log(p / q)
    return total
