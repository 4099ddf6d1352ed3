"""Hold the mean of a figure over the last taken steps, as state of an objective.

Shape suffixes: H steps that are held.
"""

import torch
from torch import Tensor, nn


class RunningMean(nn.Module):
    """Mean of the last H values, in registered buffers of constant shape. `add` belongs in `Objective.after_step`."""

    values_H: Tensor
    count: Tensor

    def __init__(self, steps: int) -> None:
        """Hold no value. steps: H."""
        super().__init__()
        self.register_buffer("values_H", torch.zeros(steps, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def add(self, value: float) -> None:
        """Add a step's value in place of the oldest."""
        self.values_H[self.count % len(self.values_H)] = value
        self.count.add_(1)

    def mean(self) -> Tensor:
        """Return the mean of the values held, 0 before the first: a float64 scalar on the buffers' device."""
        return self.values_H.sum() / self.count.clamp(min=1, max=len(self.values_H))
