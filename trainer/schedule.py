"""Learning rates and seeds as pure functions of the step, so that resuming has nothing to restore."""

import math

import torch

from trainer.recipe import Recipe


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of optimizer step `step`, counted from 1.

    Both kinds rise linearly over the warm-up; then `linear` falls to zero at the last step, and `inverse_sqrt` falls
    with the root of the step (Vaswani et al., 2017, section 5.3).
    """
    peak, warmup = recipe.optimizer.learning_rate, recipe.schedule.warmup_steps
    if step <= warmup:
        return peak * step / warmup
    if recipe.schedule.kind == "inverse_sqrt":
        return peak * math.sqrt(max(warmup, 1) / step)
    remaining = recipe.training.steps - step + 1
    return peak * max(remaining, 0) / max(recipe.training.steps - warmup, 1)


def dropout_seed(seed: int, attempt: int, number: int) -> int:
    """Return the seed of torch's generator for one micro-batch: nothing random depends on anything else.

    number: of the micro-batch among those of the global batch, in slot order, whichever rank computes it.
    """
    words = torch.tensor([seed, attempt, number], dtype=torch.int64)
    # An odd multiplier a word keeps neighbours apart; torch's generators scramble the seed themselves.
    mixed = int((words * torch.tensor([0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35])).sum())
    return mixed & 0x7FFF_FFFF_FFFF_FFFF
