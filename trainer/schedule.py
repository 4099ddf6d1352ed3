"""Learning rates as pure functions of the step, so that resuming has nothing to restore."""

import math

from trainer.recipe import Recipe


def learning_rate(step: int, recipe: Recipe) -> float:
    """The rate of optimizer step `step`, counted from 1.

    Both kinds rise linearly over the warm-up; then `linear` falls to zero at the last step, and
    `inverse_sqrt` falls with the root of the step (Vaswani et al., 2017, section 5.3).
    """
    peak, warmup = recipe.optimizer.learning_rate, recipe.schedule.warmup_steps
    if step <= warmup:
        return peak * step / warmup
    if recipe.schedule.kind == "inverse_sqrt":
        return peak * math.sqrt(max(warmup, 1) / step)
    remaining = recipe.training.steps - step + 1
    return peak * max(remaining, 0) / max(recipe.training.steps - warmup, 1)
