"""Divide the groups of a step among ranks and micro-steps."""

from dataclasses import dataclass

from shards.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """Division of a step's groups among micro-steps and ranks."""

    groups_per_step: int
    groups_per_micro_batch: int
    rank: int
    world_size: int

    def __post_init__(self) -> None:
        share = self.groups_per_micro_batch * self.world_size
        if self.groups_per_step % share:
            shares, rest = divmod(self.groups_per_step, self.groups_per_micro_batch)
            fitting = [str(size) for size in range(1, shares + 1) if shares % size == 0] if not rest else []
            raise InputError(
                f"batch.groups_per_step={self.groups_per_step} does not divide among {self.world_size} ranks of "
                f"{self.groups_per_micro_batch} groups a micro-batch: "
                + (f"world sizes that fit are {', '.join(fitting)}; or " if fitting else "")
                + f"make it a multiple of {share}"
            )

    @property
    def micro_steps(self) -> int:
        return self.groups_per_step // (self.groups_per_micro_batch * self.world_size)

    def first_group(self, micro_step: int) -> int:
        """Return the first group of this rank's micro-batch number `micro_step`, counted from the run's start."""
        step, micro = divmod(micro_step, self.micro_steps)
        offset = micro * self.world_size + self.rank
        return step * self.groups_per_step + offset * self.groups_per_micro_batch
