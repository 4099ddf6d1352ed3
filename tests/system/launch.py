"""Starts `deepspeed launcher/train.py` as a person would, in a process group of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.distributed.harness import FP32, ROOT, free_port
from trainer.metrics import read_metrics

DEEPSPEED = Path(sys.executable).with_name("deepspeed")


class Training:
    """A running training with its output in `<run>.log`. Leaving the context kills what is left of it."""

    def __init__(self, run: Path, overrides: Sequence[str], *, ranks: int = 2, ds_config: Path = FP32) -> None:
        self.run = run
        self._log = run.with_name(run.name + ".log")
        self._file = open(self._log, "w")  # noqa: SIM115
        words = [str(DEEPSPEED), "--quiet", "--log_level", "warning", "--num_accelerators", str(ranks)]
        words += ["--master_port", str(free_port()), "launcher/train.py", "--ds_config", str(ds_config), *overrides]
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *_: object) -> None:
        self.signal_all(signal.SIGKILL)
        self.process.wait()
        self._file.close()

    @property
    def output(self) -> str:
        return self._log.read_text()

    def signal_all(self, number: int) -> None:
        """Signal launcher and ranks, as a terminal or a scheduler does."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def wait(self, seconds: float = 180) -> int:
        return self.process.wait(timeout=seconds)

    def until(self, reached: Callable[[], bool], seconds: float = 120) -> None:
        """Poll until `reached`; a training that ends before, or takes too long, fails the test."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output[-4000:]}"
            assert time.monotonic() < deadline, f"not reached in {seconds} s:\n{self.output[-4000:]}"
            time.sleep(0.01)

    def last_step(self) -> int:
        records = self.records("train")
        return int(records[-1]["step"]) if records else 0

    def records(self, kind: str) -> list[dict[str, Any]]:
        path = self.run / "metrics.jsonl"
        return [record for record in read_metrics(path) if record["kind"] == kind] if path.is_file() else []
