"""Starts a training on real ranks: as torchrun would, or through DeepSpeed's launcher as a person would."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.forkserver import ROOT, Program
from tests.support.harness import FP32, free_port
from tests.support.waiting import HANGING, until
from trainer.telemetry.metrics import read_metrics

DEEPSPEED = Path(sys.executable).with_name("deepspeed")


class Training:
    """Ranks of launcher/train.py on this host, with their output in `<run>.log`.

    Leaving the context kills what is left of them. Exit codes of ranks that differ are an AssertionError of `wait`.
    """

    def __init__(self, run: Path, overrides: Sequence[str], *, ranks: int = 2, ds_config: Path = FP32) -> None:
        self.run = run
        self._log = run.with_name(run.name + ".log")
        self._log.unlink(missing_ok=True)
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
        shared["LOCAL_WORLD_SIZE"] = str(ranks)
        self.ranks = [
            Program(
                "launcher/train.py",
                ["--ds_config", str(ds_config), *overrides],
                output=self._log,
                environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(ranks)
        ]

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *_: object) -> None:
        self.signal_all(signal.SIGKILL)
        self.wait_for_all()

    @property
    def output(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def signal_all(self, number: int) -> None:
        """Signal every process, as a terminal or a scheduler does."""
        for rank in self.ranks:
            rank.send_signal(number)

    def ended(self) -> int | None:
        """Return the exit code of one that has ended, None while all are there."""
        return next((code for rank in self.ranks if (code := rank.poll()) is not None), None)

    def wait(self, seconds: float = HANGING) -> int:
        codes = self.wait_for_all(seconds)
        assert len(set(codes)) == 1, f"{codes}:\n{self.output[-4000:]}"
        return codes[0]

    def wait_for_all(self, seconds: float = HANGING) -> list[int]:
        """Return every rank's exit code."""
        deadline = time.monotonic() + seconds
        return [rank.wait(max(0.0, deadline - time.monotonic())) for rank in self.ranks]

    def until(self, reached: Callable[[], bool]) -> None:
        """Poll until `reached`; a training that ends before fails the test."""

        def reached_while_it_runs() -> bool:
            done, ended = reached(), self.ended()
            assert done or ended is None, f"ended with {ended}:\n{self.output[-4000:]}"
            return done

        until(reached_while_it_runs, lambda: self.output[-4000:])

    def last_step(self) -> int:
        records = self.records("train")
        return int(records[-1]["step"]) if records else 0

    def records(self, kind: str) -> list[dict[str, Any]]:
        path = self.run / "metrics.jsonl"
        return [record for record in read_metrics(path) if record["kind"] == kind] if path.is_file() else []


class Launched(Training):
    """`deepspeed launcher/train.py`, in a session of its own."""

    process: "subprocess.Popen[bytes]"

    def __init__(self, run: Path, overrides: Sequence[str], *, ranks: int = 2, ds_config: Path = FP32) -> None:
        words = [str(DEEPSPEED), "--quiet", "--log_level", "warning", "--num_accelerators", str(ranks)]
        words += ["--master_port", str(free_port()), "launcher/train.py", "--ds_config", str(ds_config), *overrides]
        self.start(run, words, ROOT, {})

    def start(self, run: Path, words: Sequence[str], directory: Path, environment: dict[str, str]) -> None:
        self.run = run
        self._log = run.with_name(run.name + ".log")
        with open(self._log, "a") as log:
            self.process = subprocess.Popen(
                words,
                cwd=directory,
                env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"} | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal_all(self, number: int) -> None:
        """Signal launcher and ranks."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def ended(self) -> int | None:
        return self.process.poll()

    def wait_for_all(self, seconds: float = HANGING) -> list[int]:
        return [self.process.wait(timeout=seconds)]
