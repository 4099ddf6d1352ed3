"""Show training on rank 0: a live bar on a terminal, lines of a log elsewhere."""

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from trainer.terminal.progress import SILENT_SECONDS, in_minutes, line_printed, stage
from trainer.terminal.text import Console as TerminalConsole


class Console:
    """The trainer's lines. On a terminal they go above the bar. A log has one more wherever it would be silent."""

    def __init__(self, steps: int, first_step: int) -> None:
        self._out = TerminalConsole(file=sys.stdout, soft_wrap=True)
        self._steps, self._first = steps, first_step
        self._began = time.monotonic()
        self._open = contextlib.ExitStack()
        self._stage = self._open.enter_context(stage("training", steps, out=self._out, first=SILENT_SECONDS))
        self._stage.reach(first_step)

    def rewind(self, step: int) -> None:
        """Begin bar and ETA again at `step`."""
        self._first, self._began = step, time.monotonic()
        self.advance(step)

    def advance(self, step: int) -> None:
        self._stage.reach(step)

    def phase(self, what: str) -> None:
        """Note what is being done from now on, for a log that would be silent: a step may take minutes."""
        self._stage.note(what)

    def train(self, record: Mapping[str, Any]) -> None:
        terms = "  ".join(f"{name} {value:.3f}" for name, value in record["loss"].items() if name != "total")
        done = record["step"] - self._first
        left = (self._steps - record["step"]) * (time.monotonic() - self._began) / max(done, 1)
        self.say(
            f"step {record['step']:>6}/{self._steps}  loss {record['loss']['total']:.3f}  {terms}  "
            f"lr {record['learning_rate']:.2e}  norm {record['gradient_norm']:.2f}  "
            f"{record['examples_per_second']:.1f} examples/s  wait {record['data_wait_share']:.0%}  "
            f"eta {in_minutes(left)}"
        )

    def validation(self, record: Mapping[str, Any]) -> None:
        nll = "  ".join(f"{kind} {value:.4f}" for kind, value in record["nll"].items())
        floor = ""
        if "kd_floor" in record:
            floor = f"  KD distance {record['kd_distance']:.4f}, dropout alone {record['kd_floor']:.4f}"
        self.say(f"step {record['step']:>6}/{self._steps}  held-out NLL a token  {nll}{floor}")

    def say(self, message: str) -> None:
        self._out.print(message)
        line_printed()

    def close(self) -> None:
        self._open.close()
