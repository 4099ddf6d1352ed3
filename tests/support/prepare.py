"""Starts `d2tv prepare` as a person would."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.forkserver import ROOT
from tests.support.waiting import HANGING


class Prepare:
    """A running `d2tv prepare`; leaving the context kills what is left of it, workers included."""

    def __init__(self, words: Sequence[str | Path], *, largest_file: int | None = None) -> None:
        """largest_file: kilobytes that a file may have, as on a disk that is full."""
        command = [sys.executable, "-m", "launcher.cli", "prepare", *map(str, words)]
        if largest_file:
            command = ["bash", "-c", f'ulimit -f {largest_file}; exec "$@"', "bash", *command]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> "Prepare":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def finish(self, timeout: float = HANGING) -> tuple[int, str, str]:
        """Exit code, standard output and error, when it has ended by itself."""
        output, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, output, errors


def run(*words: str | Path, largest_file: int | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and error of `d2tv prepare` with these words."""
    with Prepare(words, largest_file=largest_file) as prepare:
        return prepare.finish()
