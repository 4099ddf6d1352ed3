"""Runs an objective as the trainer does."""

from models.objectives.base import Objective, Outputs
from shards.batch.types import Batch


def outputs_of(objective: Objective, batch: Batch, step: int) -> Outputs:
    """One forward pass, with the batch's own counts."""
    outputs: Outputs = objective(batch, step, objective.counts(batch))
    return outputs
