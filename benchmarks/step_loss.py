"""Memory and time of our sliced head and loss against the two calls everyone writes, for `benchmarks.step`.

Memory is the peak above the inputs of one forward and backward in a process that did nothing before. The naive logits
need some three copies, so where they do not fit they are measured with fewer tokens and continued linearly. Time is
forward and backward by turns in one process. Shape suffixes as in shards/schema.py; T target tokens.
"""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.step_process import measured_in_process, peak_bytes
from models.losses.linear_cross_entropy import linear_cross_entropy

SMOOTHING = 0.1
#: Copies of the logits that naive code holds at its peak, rounded up.
_COPIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """tokens: 64 summaries of 84, half as many targets as a step of the paper's batch has."""

    words: int = 250_112
    width: int = 512
    tokens: int = 64 * 84
    rounds: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LossFigures:
    """bytes: above the inputs, by kind. seconds: medians, of `memory_tokens` tokens, as the naive memory."""

    memory_ratio: float
    time_ratio: float
    bytes: dict[str, float]
    seconds: dict[str, float]
    time_spread: float
    cpu_share: float
    memory_tokens: int


KINDS = ("ours", "naive")


def measure_loss(precision: str, size: Size, device: str, threads: int) -> LossFigures:
    """Raises `TraineeError` where even the smallest does not fit."""
    itemsize = 2 if precision == "bf16" else 4
    row_bytes = _COPIES * size.words * itemsize
    weights = 4 * size.words * size.width * itemsize
    tokens = min(size.tokens, max(64, int((0.8 * available_bytes(device) - weights) / row_bytes)))
    used = {
        "ours": float(measured_in_process(_memory, "ours", precision, size, size.tokens, device, threads)),
        "naive": _naive_bytes(precision, size, tokens, device, threads),
    }
    times, share = measured_in_process(_times, precision, size, tokens, device, threads)
    ratios = [ours / naive for ours, naive in zip(times["ours"], times["naive"], strict=True)]
    return LossFigures(
        memory_ratio=used["ours"] / used["naive"],
        time_ratio=statistics.median(ratios),
        bytes=used,
        seconds={kind: statistics.median(taken) for kind, taken in times.items()},
        time_spread=(max(ratios) - min(ratios)) / statistics.median(ratios),
        cpu_share=share,
        memory_tokens=tokens,
    )


def available_bytes(device: str) -> int:
    """Memory that nobody uses."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def _naive_bytes(precision: str, size: Size, tokens: int, device: str, threads: int) -> float:
    """Of `size.tokens` tokens, on the line through two measurements where they are more than `tokens`."""
    most = float(measured_in_process(_memory, "naive", precision, size, tokens, device, threads))
    if tokens == size.tokens:
        return most
    half = float(measured_in_process(_memory, "naive", precision, size, tokens // 2, device, threads))
    return most + (most - half) / (tokens - tokens // 2) * (size.tokens - tokens)


def _inputs(precision: str, size: Size, tokens: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.manual_seed(0)
    hidden_TD = torch.empty(tokens, size.width, dtype=dtype, device=device).normal_()
    weight_WD = torch.empty(size.words, size.width, dtype=dtype, device=device).normal_(std=size.width**-0.5)
    bias_W = torch.zeros(size.words, dtype=dtype, device=device)
    target_T = torch.randint(size.words, (tokens,), device=device)
    return hidden_TD.requires_grad_(), weight_WD.requires_grad_(), bias_W.requires_grad_(), target_T


def _run(kind: str, hidden_TD: Tensor, weight_WD: Tensor, bias_W: Tensor, target_T: Tensor) -> float:
    """One forward and backward of the mean loss; the loss."""
    hidden_TD.grad = weight_WD.grad = bias_W.grad = None
    if kind == "naive":
        logits_TW = F.linear(hidden_TD, weight_WD, bias_W)
        loss = F.cross_entropy(logits_TW, target_T, label_smoothing=SMOOTHING)
        del logits_TW
    else:
        total, _ = linear_cross_entropy(hidden_TD, weight_WD, bias_W, target_T, SMOOTHING)
        loss = total / len(target_T)
    torch.autograd.backward(loss)
    return loss.item()


def _memory(kind: str, precision: str, size: Size, tokens: int, device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    inputs = _inputs(precision, size, tokens, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _run(kind, *inputs)
        return torch.cuda.max_memory_allocated() - before
    before = peak_bytes()
    _run(kind, *inputs)
    return peak_bytes() - before


def _times(precision: str, size: Size, tokens: int, device: str, threads: int) -> tuple[dict[str, list[float]], float]:
    """Seconds a kind, and processor time over wall time and threads. The two losses must agree."""
    torch.set_num_threads(threads)
    inputs = _inputs(precision, size, tokens, device)
    losses = [_run(kind, *inputs) for kind in KINDS]
    if not math.isclose(*losses, rel_tol=2e-2 if precision == "bf16" else 1e-4):
        raise RuntimeError(f"the losses differ: {losses}")
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(size.rounds):
        for kind in KINDS:
            began = time.perf_counter()
            _run(kind, *inputs)  # ends with a value on the host, so the device is done
            if device == "cuda":
                torch.cuda.synchronize()
            taken[kind].append(time.perf_counter() - began)
    share = (time.process_time() - cpu) / (time.perf_counter() - wall) / threads
    return taken, share
