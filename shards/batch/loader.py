"""Load the micro-batches of one rank in order, sampled and prefetched by threads.

Ranks and threads decide who computes a group, never which groups there are: step s of the run takes the
groups s * n .. (s + 1) * n - 1, and its micro-steps and ranks divide them among themselves.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from shards.batch.types import StreamBatch
from shards.stream.partition import Partition
from shards.stream.sampler import Groups, Sampler


class Loader:
    """Iterates over this rank's micro-batches from a step on, without end.

    `threads` read, and one more samples ahead of them, which takes a while at every new block; 0 does all of it in
    the caller. What is prefetched is not state: a loader made anew at the same step yields the same batches.
    """

    def __init__(
        self,
        sampler: Sampler,
        collate: Callable[[Groups], StreamBatch],
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
        self._waiting: deque[Future[Future[StreamBatch]]] = deque()

    def __iter__(self) -> Iterator[StreamBatch]:
        return self

    def __next__(self) -> StreamBatch:
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
