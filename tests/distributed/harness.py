"""Starts real ranks as processes of their own, over gloo, and collects what they saw."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
FP32 = ROOT / "tests" / "fp32.json"


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
    poisoned: Sequence[tuple[int, int]] = (),
) -> list[dict[str, Any]]:
    """Run tests/distributed/job.py on `world_size` ranks; each rank's results, in rank order.

    poisoned: (rank, attempt) pairs at which the loss is made NaN.
    """
    out.mkdir(parents=True)
    spec = {
        "recipe": recipe,
        "overrides": list(overrides),
        "steps": steps,
        "poisoned": [list(pair) for pair in poisoned],
        "ds_config": str(ds_config),
        "out": str(out),
    }
    (out / "spec.json").write_text(json.dumps(spec))
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world_size),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    logs = [open(out / f"rank-{rank}.log", "w+") for rank in range(world_size)]  # noqa: SIM115
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.job", str(out / "spec.json")],
            cwd=ROOT,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=logs[rank],
            stderr=subprocess.STDOUT,
        )
        for rank in range(world_size)
    ]
    try:
        codes = [rank.wait(timeout=240) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (code, log) in enumerate(zip(codes, logs, strict=True)):
        log.seek(0)
        assert code == 0, f"rank {rank} ended with {code}:\n{log.read()[-4000:]}"
        log.close()
    return [torch.load(out / f"rank-{rank}.pt", weights_only=False) for rank in range(world_size)]
