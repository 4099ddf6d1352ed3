"""Compare predicted classes of image regions with those of a random-projection quantizer.

Shape suffixes: S regions, F feature size, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import widen

#: Divisor of the logits: with 1 a class rarely has a probability above a tenth.
_TEMPERATURE = 0.5


def class_directions(feature_size: int, classes: int) -> Tensor:
    """Return K random directions (F, K), float32, the same on every rank and in every run."""
    generator = torch.Generator().manual_seed(0)
    directions: Tensor = torch.randn(feature_size, classes, generator=generator) / feature_size**0.5
    return directions


def region_classes(features_SF: Tensor, directions_FK: Tensor) -> Tensor:
    """Return the distribution over classes of each region, (S, K) float32: softmax(norm(o) A / 0.5).

    A random-projection quantizer (BEST-RQ, Chiu et al., 2022) with soft assignments: features are normalised to mean 0
    and variance 1, so a class says which of them are large, whatever the extractor.
    """
    directions_FK = widen(directions_FK)
    features_SF = F.layer_norm(features_SF.to(directions_FK.dtype), features_SF.shape[-1:])
    return (features_SF @ directions_FK / _TEMPERATURE).softmax(dim=-1)


def class_divergence(logits_SK: Tensor, classes_SK: Tensor) -> Tensor:
    """Return KL(classes || softmax(logits)) of each region in nats, (S,) float32."""
    return F.kl_div(widen(logits_SK).log_softmax(dim=-1), classes_SK, reduction="none").sum(dim=-1)
