"""The micro-batches of one rank, in order, sampled and prefetched by threads.

Ranks and threads decide who computes a group, never which groups there are: step s of the run takes the
groups s * n .. (s + 1) * n - 1, and its micro-steps and ranks divide them among themselves.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from shards.batch import Batch
from shards.errors import InputError
from shards.sampler import Groups, Sampler


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """How the groups of a step fall to micro-steps and ranks. All counts are of groups but the last three."""

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
        """The first group of this rank's micro-batch number `micro_step`, counted from the run's start."""
        step, micro = divmod(micro_step, self.micro_steps)
        place = micro * self.world_size + self.rank
        return step * self.groups_per_step + place * self.groups_per_micro_batch


class Loader:
    """Iterates over this rank's micro-batches from a step on, without end.

    `threads` read, and one more samples ahead of them, which takes a while at every new block; 0 does all of it in
    the caller. What is prefetched is not state: a loader made anew at the same step yields the same batches.
    """

    def __init__(
        self,
        sampler: Sampler,
        collate: Callable[[Groups], Batch],
        partition: Partition,
        *,
        first_step: int,
        threads: int,
        prefetch: int,
    ) -> None:
        self._sampler = sampler
        self._collate = collate
        self._partition = partition
        self._next = first_step * partition.micro_steps
        self._prefetch = prefetch
        self._pools = (_pool("sampler", 1), _pool("loader", threads)) if threads else None
        self._waiting: deque[Future[Future[Batch]]] = deque()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._pools is None:
            return self._collate(self._take())
        sampling, reading = self._pools
        while len(self._waiting) <= self._prefetch:
            # One thread samples, so the micro-batches are taken in order.
            self._waiting.append(sampling.submit(lambda: reading.submit(self._collate, self._take())))
        return self._waiting.popleft().result().result()

    def _take(self) -> Groups:
        start = self._partition.first_group(self._next)
        self._next += 1
        return self._sampler.groups(start, self._partition.groups_per_micro_batch)

    def close(self) -> None:
        """Stop the threads; batches that were prefetched are dropped."""
        for pool in self._pools or ():  # the one that samples first: it hands over to the other
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(name: str, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix=name)
