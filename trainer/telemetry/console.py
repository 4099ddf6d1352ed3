"""Show training on rank 0: a live bar on a terminal, lines of a log elsewhere."""

import contextlib
import json
import sys
import time

from trainer import events
from trainer.terminal.progress import SILENT_SECONDS, in_minutes, line_printed, stage
from trainer.terminal.text import Console as TerminalConsole

#: A phase without a detail of its own, in a log.
_DOING = {"checkpoint": "waiting for the checkpoint", "evaluation": "measuring held-out examples"}


class Console:
    """Print the lines of a training, above the bar of a terminal; a log gets one more wherever it would be silent.

    steps: of the whole run.  first_step: that this start begins from.
    """

    def __init__(self, steps: int, first_step: int) -> None:
        self._out = TerminalConsole(file=sys.stdout, soft_wrap=True)
        self._steps, self._first = steps, first_step
        self._began = time.monotonic()
        self._open = contextlib.ExitStack()
        self._stage = self._open.enter_context(stage("training", steps, out=self._out, first=SILENT_SECONDS))
        self._stage.reach(first_step)

    def notify(self, event: events.Event) -> None:
        match event:
            case events.StepTaken():
                self._stage.reach(event.step)
            case events.PhaseBegan():
                self._stage.note(event.detail or _DOING.get(event.phase, event.phase))
            case events.Logged():
                self._logged(event)
            case events.Notice():
                self._print(event.text)
            case events.Started() if event.step:
                self._print(f"going on from step {event.step} of {event.steps}")
            case events.StepSkipped():
                scale = "" if event.loss_scale is None else f"; the loss scale is {event.loss_scale:g} now"
                first, last = event.slots
                self._print(f"step {event.step + 1} skipped: non-finite gradients in slots {first}..{last}{scale}")
            case events.Validated():
                self._validated(event)
            case events.Saved():
                self._saved(event)
            case events.RolledBack():
                self._first, self._began = event.step, time.monotonic()
                self._stage.reach(event.step)
            case events.LossSpiked():
                worst = ", ".join(f"{name} {nll:.2f} (usually {usual:.2f})" for name, nll, usual in event.directions)
                jump = f"the loss jumped from {event.usual:.3f} to {event.loss:.3f}"
                # An objective that trains no writing has no NLL.
                self._print(f"step {event.step}: {jump}" + (f"; NLL of the worst directions: {worst}" if worst else ""))
            case events.MixtureChanged():
                self._print(f"step {event.step}: the mixture changes to {json.dumps(event.mixture)}")
            case events.ExamplesUnreadable():
                first_one, more = event.found[0], len(event.found) - 1
                others = f" (and {more} more)" if more else ""
                self._print(f"step {event.step}: slot {first_one.slot} has a placeholder{others}: {first_one.problem}")
            case events.TrainingEnded() | events.Ended():
                self._open.close()

    def _logged(self, event: events.Logged) -> None:
        interval = event.interval
        terms = "  ".join(f"{name} {value:.3f}" for name, value in interval.loss.items())
        done = event.step - self._first
        left = (self._steps - event.step) * (time.monotonic() - self._began) / max(done, 1)
        self._print(
            f"step {event.step:>6}/{self._steps}  loss {interval.total_loss:.3f}  {terms}  "
            f"lr {event.learning_rate:.2e}  norm {event.gradient_norm:.2f}  "
            f"{interval.examples_per_second:.1f} examples/s  "
            f"wait {interval.data_wait_seconds / interval.seconds:.0%}  eta {in_minutes(left)}"
        )

    def _validated(self, event: events.Validated) -> None:
        if event.unreadable:
            self._print(f"{event.unreadable} held-out examples could not be read and are not in the means")
        if not event.nll:  # of an objective that trains no writing
            figures = "  ".join(f"{name} {value:.4f}" for name, value in event.measured.items())
            self._print(f"step {event.step:>6}/{self._steps}  {figures}")
            return
        nll = "  ".join(f"{kind} {value:.4f}" for kind, value in event.nll.items())
        floor = ""
        if "kd_floor" in event.measured:
            measured = event.measured
            floor = f"  KD distance {measured['kd_distance']:.4f}, dropout alone {measured['kd_floor']:.4f}"
        self._print(f"step {event.step:>6}/{self._steps}  held-out NLL a token  {nll}{floor}")

    def _saved(self, event: events.Saved) -> None:
        for line in event.untidy:
            self._print(line)
        if event.committed:
            self._print(f"checkpoint {event.path} ({event.bytes / 1e6:.0f} MB in {event.seconds:.1f} s)")
        else:
            self._print(f"no checkpoint of step {event.step} could be written, training goes on: {event.problem}")

    def _print(self, line: str) -> None:
        self._out.print(line)
        line_printed()
