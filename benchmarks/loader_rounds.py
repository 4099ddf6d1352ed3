"""The rounds of `benchmarks.loader`: who is measured, with which settings, in which order."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.loader_clock import Round, busy_seconds, cpu_seconds
from benchmarks.loader_ours import Ours, PlainReads, read_through, write_corpus
from benchmarks.loader_process import PeerError, PeerProcess
from benchmarks.loader_records import BATCH

OURS, PREAD = "d2tv", "pread"
#: Every contender and what it does, in the order of the table.
CONTENDERS = {
    PREAD: "features only, any order, one thread, one buffer of (8, 737280) bytes, 64-byte aligned: the 1.0",
    "pread_fresh": "the same into new memory each batch",
    "sequential": "pread in the order of the disk",
    OURS: "any order, CRC32C of every byte checked; t: loader threads, io: reader threads",
    "webdataset": "its own decoder; shards at random, then a buffer of 256; w: worker processes",
    "webdataset_lean": "with a decoder that copies nothing, which a user has to write",
    "energon": "slices of 64 at random, then a buffer of 256; the lean decoder",
    "mosaicml": "MDS; any order",
    "litdata": "memory-mapped; chunks of 64 MB at random, any order inside each; no checks",
}
PEERS = tuple(CONTENDERS)[4:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is measured."""

    records: int
    stories_per_shard: int
    rounds: int
    seconds: float  # a round of a setting
    threads: tuple[int, ...]
    io_threads: tuple[int, ...]
    workers: tuple[int, ...]

    @property
    def warm(self) -> int:
        """Batches before the clock starts: more than anyone prefetches, and a small part of an epoch."""
        return max(1, min(16, self.records // BATCH // 4))


FULL = Size(
    records=2000,
    stories_per_shard=60,
    rounds=5,
    seconds=1.0,
    threads=(0, 1, 2),
    io_threads=(0, 1, 2, 4),
    workers=(0, 1, 2),
)
QUICK = Size(
    records=64, stories_per_shard=12, rounds=2, seconds=0.05, threads=(0, 1), io_threads=(0, 2), workers=(0, 1)
)


class Setting(NamedTuple):
    contender: str
    options: str  # "" where there is nothing to choose


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What came of all rounds.

    rounds: of each setting, one entry a round.  missing: why a peer has no figure.
    others: processors that were at work for other programs, on average.
    """

    rounds: dict[Setting, list[Round]]
    versions: dict[str, str]
    missing: dict[str, str]
    others: float


Timed = Callable[[float, int, int], Round]  # seconds, warm, seed


def measure(directory: Path, size: Size, python: str, say: Callable[[str], None]) -> Measured:
    """Write everything below `directory` and let all contenders take turns. python: the peers' interpreter."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        say(f"writing {size.records} records")
        corpus = write_corpus(directory / "corpus", size.records, size.stories_per_shard)
        plain, ours = PlainReads(corpus), Ours(corpus)
        stack.callback(plain.close)
        peers: dict[str, PeerProcess] = {}
        for name in PEERS:
            peer = stack.enter_context(PeerProcess(name, python, directory, size.records))
            try:
                versions[name] = peer.version()
                say(f"writing them for {name} {versions[name]}")
                peer.write()
                peers[name] = peer
            except PeerError as error:
                missing[name] = str(error)
        say("reading all of it once")
        read_through(directory)
        settings = _settings(size, plain, ours, peers)
        found: dict[Setting, list[Round]] = {setting: [] for setting, _ in settings}
        began, busy, own = time.monotonic(), busy_seconds(), cpu_seconds()
        for number in range(size.rounds):
            say(f"round {number + 1} of {size.rounds}")
            _take_turns(settings, size, number, found, missing)
        others = (busy_seconds() - busy - (cpu_seconds() - own)) / (time.monotonic() - began)
    rounds = {setting: taken for setting, taken in found.items() if setting.contender not in missing}
    return Measured(rounds=rounds, versions=versions, missing=missing, others=max(0.0, others))


def _settings(size: Size, plain: PlainReads, ours: Ours, peers: dict[str, PeerProcess]) -> list[tuple[Setting, Timed]]:
    """What is timed in a round, in this order."""
    settings: list[tuple[Setting, Timed]] = []
    for threads in size.threads:
        for io_threads in size.io_threads:
            # Plain reads come between all of ours, so that whatever slows the machine meets both.
            settings.append((Setting(PREAD, ""), plain.round))
            options = f"t{threads} io{io_threads}"
            settings.append((Setting(OURS, options), partial(ours.round, threads=threads, io_threads=io_threads)))
    settings.append((Setting("sequential", ""), partial(plain.round, in_order=True)))
    settings.append((Setting("pread_fresh", ""), partial(plain.round, fresh=True)))
    for workers in size.workers:
        settings += [(Setting(name, f"w{workers}"), partial(peer.round, workers)) for name, peer in peers.items()]
    return settings


def _take_turns(
    settings: Sequence[tuple[Setting, Timed]],
    size: Size,
    number: int,
    found: dict[Setting, list[Round]],
    missing: dict[str, str],
) -> None:
    """Round `number` of every setting. A peer that fails is `missing` from then on."""
    for setting, timed in settings:
        if setting.contender in missing:
            continue
        try:
            got = timed(size.seconds, size.warm, number)
        except PeerError as error:
            missing[setting.contender] = str(error)
            continue
        rounds = found[setting]
        if len(rounds) > number:
            rounds[number] += got
        else:
            rounds.append(got)
