"""Starts real ranks as processes of their own, over gloo, and collects what they saw."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support.forkserver import Program
from tests.support.waiting import HANGING

FP32 = Path(__file__).with_name("fp32.json")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def run_job(
    out: Path,
    *,
    world_size: int,
    overrides: Sequence[str],
    steps: int,
    ds_config: Path = FP32,
    recipe: str = "d2tv",
    objective: str | None = None,
    poisoned: Sequence[tuple[int, int]] = (),
    poisoned_once: bool = False,
    fp16_anyway: bool = False,
    save: bool = False,
    save_at: Sequence[int] = (),
    slow_loader: tuple[int, float] | None = None,
    slow_forward: tuple[int, float] | None = None,
) -> list[dict[str, Any]]:
    """Run tests/distributed/job.py on `world_size` ranks; each rank's results, in rank order.

    steps: attempts at a step, from where the run's newest checkpoint is.
    objective: a module whose `register()` adds an objective that the overrides may name.
    poisoned: (rank, attempt) pairs at which the loss is made NaN.
    poisoned_once: not again when such an attempt is made a second time.
    fp16_anyway: train in fp16 on a processor that computes it slowly.
    save: write a checkpoint after the last attempt.  save_at: and after these steps.
    slow_loader, slow_forward: a rank whose batches, or forward passes, take so many seconds longer.
    """
    spec = {
        "recipe": recipe,
        "objective": objective,
        "overrides": list(overrides),
        "steps": steps,
        "poisoned": [list(pair) for pair in poisoned],
        "ds_config": str(ds_config),
        "poisoned_once": poisoned_once,
        "fp16_anyway": fp16_anyway,
        "save": save,
        "save_at": list(save_at),
        "slow_loader": slow_loader,
        "slow_forward": slow_forward,
    }
    return run_ranks(out, "tests.distributed.job", world_size=world_size, spec=spec)


def run_ranks(out: Path, module: str, *, world_size: int, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Run `python -m module <out>/spec.json` on every rank; what each left in `<out>/rank-<r>.pt`, in rank order.

    A rank that ends with another code than 0 is an AssertionError with the end of its output.
    """
    out.mkdir(parents=True)
    (out / "spec.json").write_text(json.dumps(spec | {"out": str(out)}))
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world_size)}
    logs = [out / f"rank-{rank}.log" for rank in range(world_size)]
    ranks = [
        Program(
            module,
            [str(out / "spec.json")],
            output=log,
            environment=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [rank.wait(timeout=HANGING) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (code, log) in enumerate(zip(codes, logs, strict=True)):
        assert code == 0, f"rank {rank} ended with {code}:\n{log.read_text()[-4000:]}"
    return [torch.load(out / f"rank-{rank}.pt", weights_only=False) for rank in range(world_size)]
