"""Decode a story for all its target languages, against a loop over directions.

    python -m benchmarks.decode --json OUT [--quick] [--threads N]

Ours is what an evaluation does: `decoding_batches`, in which a document that several languages want is encoded once,
and `Network.generate`. The peer (benchmarks/decode_plain.py) takes one direction after the other and calls
transformers' generate with a batch of its examples. Both have the same weights, the same beams (4, length penalty 0.6)
and the same rows a batch; there are as many stories as rows, so that the peer's batches are as full as ours. Time
includes reading, tokenizing and what makes text of the tokens. All texts must be equal.

Weights are random, so no summary ends before its limit: decoding, which is not shared, has its largest part in both.
The two take turns batch by batch, in a round each example once on either side; a ratio is that of a round's processor
time, which other programs disturb least (by the clock: `_wall`), and a figure the median of the rounds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.decode_plain import PlainDecoder, batches_by_direction
from benchmarks.decode_work import Size, Work, articles, emoji
from benchmarks.loader import machine
from benchmarks.output import run, show_figures
from shards.errors import InputError
from shards.files.write import check_output
from trainer.evaluation.decoding import decoding_batches
from trainer.evaluation.heldout import take_groups
from trainer.terminal.log import log
from trainer.terminal.progress import stage

FULL = Size(batch=12, sources=1, document=192, summary=32, rounds=5)
QUICK = Size(batch=3, sources=1, document=24, summary=4, rounds=1)
_EMOJI = Path("data/emoji")

FIGURES = {
    "decode_speedup": "examples/s over the loop's; made-up articles, 12 languages, documents of 6 summaries",
    "decode_speedup_low": "the lowest round",
    "decode_speedup_high": "the highest round",
    "decode_speedup_wall": "the same by the clock",
    "decode_examples_per_second": "ours, by the clock",
    "decode_cpu_share": "processor time over wall time and threads; far below 1 beside other programs",
    "decode_speedup_emoji": "the recipe d2tv on data/emoji, whose documents are some ten tokens",
    "decode_speedup_emoji_wall": "the same by the clock",
}

Step = Callable[[], dict[int, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Seconds of a side in a round."""

    cpu: float = 0.0
    wall: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(cpu=self.cpu + other.cpu, wall=self.wall + other.wall)


def our_steps(work: Work) -> Iterator[Step]:
    for places in decoding_batches(work.groups, work.corpus, work.batch):
        chosen = take_groups(work.groups, places)
        yield lambda chosen=chosen: work.texts(  # type: ignore[misc]
            chosen, work.network.generate(work.collate(chosen), work.decoding)
        )


def plain_steps(work: Work) -> Iterator[Step]:
    plain = PlainDecoder(work.config, work.network)
    for places in batches_by_direction(work.groups, work.corpus, work.batch):
        chosen = take_groups(work.groups, places)
        yield lambda chosen=chosen: work.texts(  # type: ignore[misc]
            chosen, plain.generate(work.collate(chosen), work.decoding)
        )


def take_turns(sides: Sequence[Sequence[Step]]) -> tuple[list[Spent], list[dict[int, str]]]:
    """All steps of all sides, each side about as far as the others at any time: what they cost, what came of them."""
    order = sorted((place / len(steps), side, place) for side, steps in enumerate(sides) for place in range(len(steps)))
    spent, texts = [Spent() for _ in sides], [dict[int, str]() for _ in sides]
    for _, side, place in order:
        cpu, wall = time.process_time(), time.perf_counter()
        texts[side] |= sides[side][place]()
        spent[side] += Spent(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)
    return spent, texts


def compare(work: Work, rounds: int) -> list[tuple[Spent, Spent]]:
    """(ours, the loop's) of every round. `AssertionError` where a text differs."""
    ours, plain = list(our_steps(work)), list(plain_steps(work))
    take_turns((ours[:1], plain[:1]))  # for what a first call sets up
    found = []
    for _ in range(rounds):
        (mine, theirs), texts = take_turns((ours, plain))
        assert sorted(texts[0]) == work.groups.number.tolist()
        assert texts[0] == texts[1], "the predictions differ"
        found.append((mine, theirs))
    return found


def measure(size: Size, threads: int) -> dict[str, float | str | None]:
    """The figures of decoding; null for the emoji corpus where it is not prepared."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        work = articles(Path(folder), size)
        rounds = compare(work, size.rounds)
    ratios = [theirs.cpu / mine.cpu for mine, theirs in rounds]
    figures: dict[str, float | str | None] = {
        "decode_speedup": statistics.median(ratios),
        "decode_speedup_low": min(ratios),
        "decode_speedup_high": max(ratios),
        "decode_speedup_wall": statistics.median(theirs.wall / mine.wall for mine, theirs in rounds),
        "decode_examples_per_second": len(work.groups.number) / statistics.median(mine.wall for mine, _ in rounds),
        "decode_cpu_share": sum(m.cpu + t.cpu for m, t in rounds) / sum(m.wall + t.wall for m, t in rounds) / threads,
        "decode_examples": float(len(work.groups.number)),
        "decode_batch": float(size.batch),
        "decode_threads": float(threads),
        "decode_speedup_emoji": None,
        "decode_speedup_emoji_wall": None,
    }
    try:
        rounds = compare(emoji(_EMOJI, size), size.rounds)
    except InputError as error:
        log.warning(f"no figure of the emoji corpus: {error}")
    else:
        figures["decode_speedup_emoji"] = statistics.median(theirs.cpu / mine.cpu for mine, theirs in rounds)
        figures["decode_speedup_emoji_wall"] = statistics.median(theirs.wall / mine.wall for mine, theirs in rounds)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="few examples, for the tests")
    parser.add_argument("--threads", type=int, default=1, help="of both sides (default: %(default)s)")
    options = parser.parse_args(arguments)
    check_output(options.json)
    with stage("decoding, ours and plain"):
        figures = measure(QUICK if options.quick else FULL, options.threads)
    figures["machine"] = machine()
    show_figures(f"decoding, {machine()}", figures, options.json, FIGURES)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
