"""What is measured between two logged steps, and metrics.jsonl.

Every rank adds up its own numbers in one flat vector; at a logged step one reduction makes them global.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.objectives.base import Outputs
from shards.errors import InputError
from shards.files import write_atomically
from shards.schema import Batch
from trainer.distributed import sum_over_ranks

KINDS = ("mms", "mxls")


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Global sums since the last logged step. Arrays of languages are by target language."""

    steps: int
    seconds: float
    data_wait_seconds: float
    read_retries: int
    total_loss: float  # J, the mean of the steps
    loss: dict[str, float]  # term -> average over its own count, before its weight
    nll: dict[str, float]  # branch -> nats a target token
    nll_by_target: dict[str, list[float]]  # branch -> sums of nats
    tokens: dict[str, list[float]]  # branch -> target tokens; the teacher (mms) reads every row
    examples: dict[str, list[float]]  # kind -> examples whose direction is of that kind
    direction_nats: list[float]  # (target, source) flattened: nats of each direction's own branch
    direction_tokens: list[float]  # and its target tokens
    real_token_share: float  # of the places that self-attention computes for texts, those that hold a token


class Totals:
    """Running sums of one rank, in a layout that is the same on every rank.

    Micro-batches wait until their step is taken: one that is skipped as non-finite leaves no trace.
    """

    def __init__(self, terms: Sequence[str], languages: int, device: torch.device) -> None:
        self._terms = tuple(terms)
        self._languages = languages
        size = 2 * len(terms) + 3 * len(KINDS) * languages + 2 * languages**2 + 5
        self._sums = torch.zeros(size, dtype=torch.float64, device=device)
        self._pending = torch.zeros_like(self._sums)
        self._steps = 0
        self._seconds = 0.0

    def add_micro_batch(self, outputs: Outputs, batch: Batch, loss: torch.Tensor) -> None:
        """Add a micro-batch's losses and counts; `loss` is its share of J. Nothing here waits for the device.

        `batch` is on the host.
        """
        n = len(self._terms)
        target_B = batch.target_language_B.to(self._sums.device, non_blocking=True)
        self._pending[:n] += torch.stack([outputs.terms[name].sum.detach().double() for name in self._terms])
        direction_B = target_B * self._languages + batch.source_language_B.to(target_B.device, non_blocking=True)
        cross_B = batch.cross_B.to(target_B.device, non_blocking=True)
        for number, kind in enumerate(KINDS):
            of_kind_B = cross_B if kind == "mxls" else ~cross_B
            for what, row_values in enumerate((outputs.row_nll, outputs.row_tokens)):
                if kind in row_values:
                    values_B = row_values[kind].double()
                    self._by_target(what, number, self._pending).index_add_(0, target_B, values_B)
                    own_B = torch.where(of_kind_B, values_B, 0.0)
                    self._by_direction(what, self._pending).index_add_(0, direction_B, own_B)
        self._pending[-3] += loss.detach().double()
        # What the host knows goes there in one copy.
        known = torch.zeros(len(self._sums), dtype=torch.float64)
        known[n : 2 * n] = torch.tensor([float(outputs.terms[name].count) for name in self._terms])
        real_B = batch.weight_B > 0
        for number, kind in enumerate(KINDS):
            rows_B = real_B & (batch.cross_B if kind == "mxls" else ~batch.cross_B)
            self._by_target(2, number, known).index_add_(0, batch.target_language_B, rows_B.double())
        known[-5], known[-4] = outputs.real_tokens, outputs.computed_tokens
        self._pending += known.to(self._pending.device, non_blocking=True)

    def skip_step(self) -> None:
        """Forget the micro-batches since the last step."""
        self._pending.zero_()

    def add_step(self, *, seconds: float, data_wait_seconds: float, read_retries: int) -> None:
        """The micro-batches since the last step were trained on."""
        self._sums += self._pending
        self._pending.zero_()
        self._steps += 1
        self._seconds += seconds
        self._sums[-2] += data_wait_seconds
        self._sums[-1] += read_retries

    def reduce(self, world_size: int) -> Interval:
        """The sums over all ranks since the last call (all ranks call this), and start anew."""
        values = sum_over_ranks(self._sums)
        n = len(self._terms)
        by_target = [[self._by_target(what, k, self._sums).tolist() for k in range(len(KINDS))] for what in range(3)]
        interval = Interval(
            steps=self._steps,
            seconds=self._seconds,
            data_wait_seconds=values[-2].item() / world_size,
            read_retries=round(values[-1].item()),
            real_token_share=_ratio(values[-5].item(), values[-4].item()),
            total_loss=_ratio(values[-3].item(), self._steps),
            loss={t: _ratio(values[i].item(), values[n + i].item()) for i, t in enumerate(self._terms)},
            nll={kind: _ratio(sum(by_target[0][k]), sum(by_target[1][k])) for k, kind in enumerate(KINDS)},
            nll_by_target=dict(zip(KINDS, by_target[0], strict=True)),
            tokens=dict(zip(KINDS, by_target[1], strict=True)),
            examples=dict(zip(KINDS, by_target[2], strict=True)),
            direction_nats=self._by_direction(0, self._sums).tolist(),
            direction_tokens=self._by_direction(1, self._sums).tolist(),
        )
        self._sums.zero_()
        self._steps, self._seconds = 0, 0.0
        return interval

    def _by_target(self, what: int, kind: int, vector: torch.Tensor) -> torch.Tensor:
        begin = 2 * len(self._terms) + (what * len(KINDS) + kind) * self._languages
        return vector[begin : begin + self._languages]

    def _by_direction(self, what: int, vector: torch.Tensor) -> torch.Tensor:
        size = self._languages**2
        begin = 2 * len(self._terms) + 3 * len(KINDS) * self._languages + what * size
        return vector[begin : begin + size]


class MetricsLog:
    """metrics.jsonl: one object a line, appended. Rank 0 only."""

    def __init__(self, path: Path, resume_step: int | None) -> None:
        """Begin anew where `resume_step` is None: what lies there is another run's. Else as after `rewind`."""
        self._path = path
        self._cut = self._complained = False
        self._open(resume_step)

    def rewind(self, step: int) -> None:
        """Drop the lines past `step`, and a last line that a kill cut short: they will come again."""
        self._file.close()
        self._open(step)

    def _open(self, resume_step: int | None) -> None:
        path = self._path
        kept: list[str] = []
        if path.is_file() and resume_step is not None:
            for line in path.read_text(encoding="utf-8").splitlines():
                record = _parse(line)
                if record is not None and record["step"] <= resume_step:
                    kept.append(line + "\n")
        try:
            write_atomically(path, "".join(kept).encode())  # a kill in this very moment must not lose the history
            # Unbuffered and kept open for the whole run: a kill loses at most one line.
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line. One that a full disk does not take is lost, which is said once: it ends no training."""
        line = ("\n" if self._cut else "") + json.dumps(record) + "\n"
        try:
            written = self._file.write(line.encode())
            self._cut = written != len(line.encode())
            problem = "the disk is full" if self._cut else ""
        except OSError as error:
            self._cut, problem = True, str(error)
        if problem and not self._complained:
            self._complained = True
            warning = f"warning: {self._path} cannot be written, lines of it are lost: {problem}"
            print(warning, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl."""
    records = (_parse(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [record for record in records if record is not None]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _ratio(total: float, count: float) -> float:
    return total / count if count else 0.0
