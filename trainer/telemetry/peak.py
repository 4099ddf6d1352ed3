"""Measure the FLOP/s that a device reaches in one large matrix product, the denominator of MFU."""

import time

import torch

#: Rows and columns of the square matrices: large enough to fill the device, for a CPU small enough to take no time.
_SIDE = {"cpu": 1024}
_SIDE_ELSEWHERE = 8192
_REPEATS = 5


def matmul_peak(dtype: torch.dtype, device: torch.device, *, side: int | None = None) -> float:
    """Return the FLOP/s of the best of several products of two square matrices, on as many threads as torch has."""
    side = side or _SIDE.get(device.type, _SIDE_ELSEWHERE)
    generator = torch.Generator(device).manual_seed(0)  # the run's own random numbers are not touched
    a, b = (torch.randn(side, side, device=device, generator=generator).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(_REPEATS):
        _wait_for(device)
        began = time.perf_counter()
        torch.mm(a, b)
        _wait_for(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
