"""Tell a student's representations from its teacher's by discriminators that it learns to deceive: AMID, Eqs. 11-14.

The fundamental one compares representations of the same row, the enhanced one a teacher's with the student's of another
row of its class. Both sides learn in one backward pass: the discriminators from detached representations, the student
through detached discriminators, as if they took their steps at the same time.

Shape suffixes as in models/losses/class_contrast.py.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from models.losses import widen

#: Slope of a LeakyReLU below zero, in place of ReLU wherever adversaries learn (section 4.2).
SLOPE = 0.2
#: Linear layers of the fundamental and the enhanced discriminator (section 4.2).
_LAYERS = {"fundamental": 5, "enhanced": 3}


def perceptron(inputs: int, width: int, outputs: int, layers: int) -> nn.Sequential:
    """Return `layers` linear layers with LeakyReLU between them, those inside `width` wide."""
    sizes = [inputs, *[width] * (layers - 1), outputs]
    steps: list[nn.Module] = []
    for before, after in pairwise(sizes):
        steps += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*steps[:-1])


class Adversary(nn.Module):
    """Hold both discriminators and their weights lambda, which are state: they change once an epoch, by `add`."""

    smoothed_2: Tensor
    total_2: Tensor
    steps_2: Tensor

    def __init__(self, width: int, *, epoch_steps: int, smoothing: float, adaptive: bool, enhanced: bool) -> None:
        """Build discriminators of representations that are `width` wide.

        epoch_steps: taken steps after which the weights change.  smoothing: beta of Eq. 14.  adaptive: else both
        weights stay 1/2.  enhanced: else the fundamental one has all the weight.
        """
        super().__init__()
        self.discriminators = nn.ModuleDict(
            {name: perceptron(width, width, 1, layers) for name, layers in _LAYERS.items()}
        )
        self.epoch_steps, self.smoothing, self.adaptive, self.enhanced = epoch_steps, smoothing, adaptive, enhanced
        for name in ("smoothed_2", "total_2", "steps_2"):
            self.register_buffer(name, torch.zeros(2, dtype=torch.float64))

    def weights(self) -> dict[str, Tensor]:
        """Return lambda_1 and lambda_2 by name: softmax of Eq. 14, float32 scalars that sum to 1."""
        weight_2 = self.smoothed_2.softmax(dim=0).float()
        if not self.enhanced:
            weight_2 = torch.stack((weight_2.sum(), torch.zeros_like(weight_2[1])))
        return dict(zip(_LAYERS, weight_2, strict=True))

    def deceived(self, name: str, student_BR: Tensor) -> Tensor:
        """Return -log D(S), Eq. 12, (B,) float32: the student learns, the discriminator does not."""
        discriminator = self.discriminators[name]
        frozen = {key: parameter.detach() for key, parameter in discriminator.named_parameters()}
        logit_B1: Tensor = functional_call(discriminator, frozen, (student_BR,))
        return F.softplus(-widen(logit_B1[:, 0]))

    def told_apart(self, name: str, teacher_BR: Tensor, student_BR: Tensor) -> Tensor:
        """Return -log D(M) - log(1 - D(S)), Eq. 13, (B,) float32: the discriminator learns, neither side does."""
        discriminator = self.discriminators[name]
        real_B1, imitated_B1 = discriminator(teacher_BR.detach()), discriminator(student_BR.detach())
        return F.softplus(-widen(real_B1[:, 0])) + F.softplus(widen(imitated_B1[:, 0]))

    def add(self, step: int, similarity: Mapping[str, float]) -> None:
        """Add the mean cosines of taken step `step`, by name where it had any; every `epoch_steps` an epoch ends."""
        if not (self.adaptive and self.enhanced):
            return
        for place, name in enumerate(_LAYERS):
            if name in similarity:
                self.total_2[place] += similarity[name]
                self.steps_2[place] += 1
        if step % self.epoch_steps == 0:
            # Without a pair of one class in all of an epoch, that weight's part stays what it was.
            found_2 = self.smoothing * self.smoothed_2 + (1 - self.smoothing) * (1 - self.total_2 / self.steps_2)
            self.smoothed_2.copy_(torch.where(self.steps_2 > 0, found_2, self.smoothed_2))
            self.total_2.zero_()
            self.steps_2.zero_()
