"""The rounds of `benchmarks.step`: whose turn it is, with which batches, in which order."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.loader_clock import busy_seconds, cpu_seconds
from benchmarks.step_process import Timing, Trainee, TraineeError, Turn, trainee
from benchmarks.step_shapes import IMAGES, REGIMES, REGIONS, lengths_of
from benchmarks.step_trainees import Setup
from models.config import NetworkConfig
from models.network import Network
from models.objectives import OBJECTIVES
from models.objectives.d2tv import D2TV, D2TVConfig
from shards.batch.collate import Collator
from shards.batch.collate import Lengths as CollatedLengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.reader import Reader, ReaderConfig
from shards.errors import InputError
from shards.format.index import open_corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.sampler import Sampler
from shards.text.tokenizer import open_tokenizer
from trainer.ranks import Ranks
from trainer.telemetry.peak import matmul_peak

PRECISIONS = ("bf16", "fp32")
#: Processors at work for others above which two ranks on two cores would measure them instead.
_BUSY = 0.3


class Series(NamedTuple):
    """Identity of one row of the table."""

    contender: str  # ours, plain
    precision: str
    batches: str
    variant: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Extent of the measurement, and its device."""

    shape: str
    device: str
    threads: int
    quick: bool
    rounds: int
    steps: int  # of a turn
    rows: int = 4  # of a micro-batch
    precisions: tuple[str, ...] = PRECISIONS
    compile: bool = False
    objectives: tuple[str, ...] = tuple(OBJECTIVES)  # of the part `objectives`

    def setup(
        self, precision: str, shape: str | None = None, rows: int | None = None, *, objective: str | None = None
    ) -> Setup:
        return Setup(
            shape=shape or self.shape,
            precision=precision,
            device=self.device,
            lengths=lengths_of(self.quick),
            rows=rows or self.rows,
            compile=self.compile,
            objective=objective,
        )


@dataclass(kw_only=True, slots=True)
class Measured:
    """Outcome of the measurement. missing: figure or contender -> why there is none."""

    timings: dict[Series, list[Timing]] = field(default_factory=dict)
    apart: dict[Series, Timing] = field(default_factory=dict)  # a turn whose parts were waited for one by one
    peaks: dict[str, float] = field(default_factory=dict)  # FLOP/s by precision
    missing: dict[str, str] = field(default_factory=dict)
    others: float = 0.0  # processors that were at work for other programs, on average


Say = Callable[[str], None]


def train_in_rounds(plan: Plan, say: Say) -> Measured:
    """Ours and the plain one, a precision at a time: both at once hold what the machine has of memory."""
    measured = Measured()
    began, busy, own = time.monotonic(), busy_seconds(), cpu_seconds()
    _note_peaks(plan, measured)
    for precision in plan.precisions:
        with ExitStack() as stack:
            setup = plan.setup(precision)
            contenders = {"ours": stack.enter_context(trainee("ours", setup, plan.threads))}
            if plan.shape == "mbart-50":
                measured.missing["plain"] = "the plain step is written for mT5"
            else:
                contenders["plain"] = stack.enter_context(trainee("plain", setup, plan.threads))
            take_turns(plan, series_of(precision), contenders, measured, say)
        _note_peaks(plan, measured)
    measured.others = max(0.0, (busy_seconds() - busy - (cpu_seconds() - own)) / (time.monotonic() - began))
    return measured


def series_of(precision: str) -> list[Series]:
    """The turns of a round. What is compared stands side by side."""
    found = []
    for regime in REGIMES:
        found += [
            Series("ours", precision, regime, "two_branch"),
            Series("ours", precision, regime, "d2tv"),
            Series("plain", precision, regime, "d2tv"),
        ]
    if precision == "bf16":
        found += [
            Series("ours", precision, "stories", "d2tv"),
            Series("ours", precision, "stories", "unshared"),
            Series("ours", precision, "languages_4", "d2tv@4"),
            Series("ours", precision, "languages_44", "d2tv@44"),
        ]
    return found


def take_turns(plan: Plan, order: list[Series], contenders: dict[str, Trainee], measured: Measured, say: Say) -> None:
    failed: set[Series] = set()
    for number in range(-1, plan.rounds):
        say(f"{order[0].precision}: " + ("warming up" if number < 0 else f"round {number + 1} of {plan.rounds}"))
        # Every other round backwards, so that nobody always comes after the same one.
        for series in order if number % 2 else reversed(order):
            if series in failed or series.contender not in contenders:
                continue
            warming = number < 0
            turn = Turn(
                batches=series.batches,
                variant=series.variant,
                first=max(0, number) * plan.steps,
                steps=plan.steps,
                apart=warming,
            )
            try:
                timing = contenders[series.contender].take(turn)
                if warming:  # once more, for what the first call of a kind sets up
                    measured.apart[series] = contenders[series.contender].take(turn)
            except TraineeError as error:
                failed.add(series)
                measured.timings.pop(series, None)
                measured.missing["_".join(series)] = str(error)
                say(f"no figure of {' '.join(series)}: {error}")
                continue
            if not warming:
                measured.timings.setdefault(series, []).append(timing)


def _note_peaks(plan: Plan, measured: Measured) -> None:
    for precision in PRECISIONS:
        found = _peak(precision, plan.device, plan.threads, plan.quick)
        measured.peaks[precision] = max(found, measured.peaks.get(precision, 0.0))


def _peak(precision: str, device: str, threads: int, quick: bool) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    found = matmul_peak(dtype, torch.device(device), side=256 if quick else 2048 if device == "cpu" else 8192)
    torch.set_num_threads(before)
    return found


def two_ranks(plan: Plan) -> list[tuple[Timing, Timing, Timing]]:
    """(rank 0, rank 1, one rank with both their rows) a round: the shape `tiny` in fp32, a thread each.

    `TraineeError` where the machine has not two cores to spare.
    """
    if plan.device != "cpu":
        raise TraineeError("it is measured on CPUs")
    cores = len(os.sched_getaffinity(0))
    before, began = busy_seconds(), time.monotonic()
    time.sleep(0.2 if plan.quick else 2.0)
    others = (busy_seconds() - before) / (time.monotonic() - began)
    if cores < 2 or others > _BUSY + max(0, cores - 2):
        raise TraineeError(f"of {cores} cores other programs use {others:.1f}, and it needs two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        half = plan.setup("fp32", "tiny")
        ranks = [Ranks(rank=rank, local_rank=rank, world_size=2) for rank in range(2)]
        pair = [stack.enter_context(trainee("ours", half, 1, rank, port)) for rank in ranks]
        alone = stack.enter_context(trainee("ours", plan.setup("fp32", "tiny", 2 * plan.rows), 1))
        found = []
        for number in range(-1, plan.rounds):
            turn = Turn(batches="full", first=max(0, number) * plan.steps, steps=plan.steps)
            for one in pair:
                one.ask(turn)
            first, second = (one.answer() for one in pair)
            whole = alone.take(turn)
            if number >= 0:
                found.append((first, second, whole))
    return found


def real_token_share(corpus: Path, *, quick: bool) -> float:
    """Of the places that self-attention computes for texts, those that hold a token, in micro-batches of 32 examples
    of a corpus, cut to 512 and 84 tokens. Raises `InputError` where there is no corpus."""
    opened = open_corpus(corpus)
    config = _smallest_network()
    tokenizer = open_tokenizer(corpus / "tokenizer")
    reader = Reader(opened, ReaderConfig(io_threads=0))
    try:
        sizes = ImageSizes(
            images=IMAGES, regions=REGIONS, feature_size=config.vision.feature_size, load=config.vision.enabled
        )
        collate = Collator(
            opened,
            Fetcher(opened, reader, sizes, rule="source_or_target"),
            tokenizer,
            CollatedLengths(document=512, summary=84),
        )
        sampler = Sampler(opened, split="train", mixture=MixtureConfig(), seed=0, group_size=8)
        network = Network(config, tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id)
        objective = D2TV(D2TVConfig(contrast=config.vision.enabled), network).eval()
        real = computed = 0
        with torch.no_grad():
            for number in range(1 if quick else 25):
                batch = collate(sampler.groups(4 * number, 4))
                outputs = objective(batch, 0, objective.counts(batch))
                real, computed = real + outputs.real_tokens, computed + outputs.computed_tokens
    finally:
        reader.close()
    return real / computed


def _smallest_network() -> NetworkConfig:
    """Build a network that costs nothing: what is computed for texts depends on lengths alone."""
    text = {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_heads": 2, "num_layers": 1, "dropout": 0.0}
    vision = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "ffn_size": 8, "dropout": 0.0}
    return NetworkConfig.model_validate({"text": text, "vision": vision, "fusion": {"hidden_size": 8, "num_heads": 2}})


def shares_of_corpora(data: Path, *, quick: bool) -> tuple[dict[str, float], dict[str, str]]:
    """The share of each corpus that is there, and why not of each that is not."""
    shares, missing = {}, {}
    for name in ("emoji", "help"):
        try:
            shares[name] = real_token_share(data / name, quick=quick)
        except InputError as error:
            missing[f"real_token_share_{name}"] = str(error)
    return shares, missing
