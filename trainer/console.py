"""What rank 0 shows a person: a live bar with an ETA on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainer.terminal import Console as TerminalConsole


def progress_bar(**options: Any) -> Progress:
    """A bar with count, elapsed time and ETA, the same in every stage of the project."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        **options,
    )


class Console:
    """The trainer's voice. A line goes above the bar, so a log file reads the same without it."""

    def __init__(self, steps: int, first_step: int) -> None:
        self._out = TerminalConsole(file=sys.stdout, soft_wrap=True)
        self._steps, self._first = steps, first_step
        self._began = time.monotonic()
        self._bar = progress_bar(console=self._out, disable=not self._out.is_terminal)
        self._task = self._bar.add_task("training", total=steps, completed=first_step)
        self._bar.start()

    def rewind(self, step: int) -> None:
        """The bar and the ETA begin again at `step`."""
        self._first, self._began = step, time.monotonic()
        self.advance(step)

    def advance(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def train(self, record: Mapping[str, Any]) -> None:
        terms = "  ".join(f"{name} {value:.3f}" for name, value in record["loss"].items() if name != "total")
        done = record["step"] - self._first
        left = (self._steps - record["step"]) * (time.monotonic() - self._began) / max(done, 1)
        self.say(
            f"step {record['step']:>6}/{self._steps}  loss {record['loss']['total']:.3f}  {terms}  "
            f"lr {record['learning_rate']:.2e}  norm {record['gradient_norm']:.2f}  "
            f"{record['examples_per_second']:.1f} examples/s  wait {record['data_wait_share']:.0%}  "
            f"eta {int(left) // 60}:{int(left) % 60:02d}"
        )

    def validation(self, record: Mapping[str, Any]) -> None:
        nll = "  ".join(f"{kind} {value:.4f}" for kind, value in record["nll"].items())
        self.say(f"step {record['step']:>6}/{self._steps}  held-out NLL a token  {nll}")

    def say(self, message: str) -> None:
        self._out.print(message, markup=False)

    def close(self) -> None:
        self._bar.stop()
