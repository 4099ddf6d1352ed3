"""Global sums of a logging interval, and what each rank measured in it.

Shapes: T target languages, S source languages, both the corpus' L; matrices are by [target, source].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFacts:
    """One rank in an interval: seconds and counts are its sums, sizes and files what they were at the end of it."""

    busy_seconds: float = 0.0  # waiting for data, and forward passes: where it waits for no other rank
    data_wait_seconds: float = 0.0  # the first of these
    read_bytes: float = 0.0
    read_retries: float = 0.0
    open_files: float = 0.0
    resident_bytes: float = 0.0
    device_bytes: float = 0.0
    device_peak_bytes: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Global sums since the last logged step."""

    steps: int
    seconds: float
    total_loss: float  # J, the mean of the steps
    loss: dict[str, float]  # term -> average over its own count, before its weight; none of what had no count
    watched: dict[str, float]  # figure of the objective's, no part of J -> its mean; likewise
    nll: dict[str, float]  # branch -> nats a target token; likewise
    tokens: dict[str, list[float]]  # branch -> target tokens (L,), of every row that it reads
    nats_TS: NDArray[np.float64]  # of each direction's own branch (models.objectives.base.Branch)
    tokens_TS: NDArray[np.float64]  # and its target tokens
    examples_TS: NDArray[np.float64]  # examples trained on
    real_token_share: float  # of the positions that self-attention computes for texts, those that hold a token
    flops: float  # of the model's matrix products, forward and backward, as of the first step
    ranks: tuple[RankFacts, ...]

    @property
    def examples(self) -> dict[str, list[float]]:
        """Return kind -> examples by target language (L,)."""
        own = np.diagonal(self.examples_TS)
        return {"mms": own.tolist(), "mxls": (self.examples_TS.sum(axis=1) - own).tolist()}

    @property
    def data_wait_seconds(self) -> float:
        """Return the mean over ranks."""
        return sum(rank.data_wait_seconds for rank in self.ranks) / len(self.ranks)

    @property
    def read_retries(self) -> int:
        return round(sum(rank.read_retries for rank in self.ranks))

    @property
    def slowest_rank(self) -> tuple[int, float]:
        """Return the rank with the longest busy time, and its seconds a step over the median of all."""
        busy = [rank.busy_seconds for rank in self.ranks]
        slowest = int(np.argmax(busy))
        # The lower one of two: with two ranks the mean would halve what one is behind the other.
        return slowest, (busy[slowest] - sorted(busy)[(len(busy) - 1) // 2]) / self.steps

    @property
    def examples_per_second(self) -> float:
        return float(self.examples_TS.sum()) / self.seconds

    @property
    def target_tokens_per_second(self) -> float:
        """Return the tokens of all branches a second."""
        return sum(map(sum, self.tokens.values())) / self.seconds

    @property
    def flops_per_second(self) -> float:
        return self.flops / self.seconds
