"""Send the numbers of metrics.jsonl to TensorBoard and Weights & Biases, through their own libraries.

Both are extras (`pip install 'd2tv[tensorboard]'`, `'d2tv[wandb]'`). Rank 0 only. An error of one ends no run: it is
printed once, and that tracker gets no more.
"""

import importlib.util
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from shards.errors import InputError, reason
from shards.files.write import write_atomically
from trainer.events import Ended, Event, Recorded, RolledBack
from trainer.liveness.waits import TRACKER_FINISH_SECONDS
from trainer.recipe import Recipe
from trainer.recipe.sections import TrackingSection
from trainer.terminal.log import log

#: Records whose numbers are curves over steps. Those by direction are too many: they are in metrics.jsonl alone.
_KINDS = ("train", "validation", "checkpoint", "spike", "evaluation")
#: Keys of a record that are no curves.
_NO_CURVES = ("kind", "step", "time", "directions")


class Tracker(Protocol):
    """Sends numbers to one destination."""

    name: str

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the numbers of a step, by their path like train/loss/mms."""
        ...

    def rewind(self, step: int) -> None:
        """Drop what is of later steps, which will come again."""
        ...

    def close(self, failed: bool) -> None:
        """Send what is left. failed: the run ends with an error."""
        ...


class Trackers:
    """The trackers that a recipe asks for, as one observer. trackers: (name, how to open it)."""

    def __init__(self, trackers: Sequence[tuple[str, Callable[[], Tracker]]]) -> None:
        self._trackers: list[Tracker] = []
        for name, opened in trackers:
            self._attempt(name, lambda opened=opened: self._trackers.append(opened()))  # type: ignore[misc]

    def notify(self, event: Event) -> None:
        match event:
            case Recorded(record=record) if self._trackers and record["kind"] in _KINDS:
                curves = {key: value for key, value in record.items() if key not in _NO_CURVES}
                values = dict(_numbers(curves, record["kind"]))
                self._each(lambda tracker: tracker.log(values, int(record["step"])))
            case RolledBack(step=step):
                self._each(lambda tracker: tracker.rewind(step))
            case Ended(outcome=outcome):
                self._each(lambda tracker: tracker.close(outcome == "failed"))
                self._trackers.clear()

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            if not self._attempt(tracker.name, lambda tracker=tracker: action(tracker)):  # type: ignore[misc]
                self._trackers.remove(tracker)

    def _attempt(self, name: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # their libraries raise what they like, also their transports' errors
            log.warning(f"{name} gets no more of this run: {reason(error, 1000)}")
            return False
        return True


def check_trackers(settings: TrackingSection) -> None:
    """Raise `InputError` for a tracker whose library is not installed."""
    for name, wanted in (("tensorboard", settings.tensorboard), ("wandb", settings.wandb is not None)):
        if wanted and importlib.util.find_spec(name) is None:
            raise InputError(f"tracking.{name} needs the package {name}: pip install 'd2tv[{name}]', or unset the key")


def open_trackers(recipe: Recipe, resume_step: int | None) -> Trackers:
    """Open what the recipe asks for. resume_step: that the run resumes from; None where it begins."""
    settings = recipe.tracking
    wanted: list[tuple[str, Callable[[], Tracker]]] = []
    if settings.tensorboard:
        wanted.append(("TensorBoard", lambda: _TensorBoard(recipe.run / "tensorboard", resume_step)))
    if settings.wandb is not None:
        wanted.append(("W&B", lambda: _WandB(recipe, str(settings.wandb), resume_step)))
    return Trackers(wanted)


class _TensorBoard:
    """Event files in <run>/tensorboard."""

    name = "TensorBoard"

    def __init__(self, directory: Path, resume_step: int | None) -> None:
        self._directory = directory
        self._open(resume_step)

    def _open(self, resume_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Hides what an earlier start wrote of later steps.
        purge = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(self._directory), purge_step=purge)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        self._writer.close()
        self._open(step)

    def close(self, failed: bool) -> None:
        self._writer.close()


class _WandB:
    """One W&B run for all starts of a run directory. WANDB_MODE=offline keeps it in <run>/wandb."""

    name = "W&B"

    def __init__(self, recipe: Recipe, project: str, resume_step: int | None) -> None:
        import wandb

        self._run = wandb.init(
            project=project,
            name=recipe.run.name,
            id=_wandb_id(recipe.run, new=resume_step is None),
            resume="allow",
            dir=str(recipe.run),
            config=recipe.model_dump(mode="json"),
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, finish_timeout=TRACKER_FINISH_SECONDS
            ),
        )
        # Its own step never goes back; a run does, to a checkpoint.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def rewind(self, step: int) -> None:
        """Do nothing: curves are over `step`, so what comes again covers what was."""

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _wandb_id(run: Path, *, new: bool) -> str:
    """Return the id in the run directory: all starts of a run are one W&B run; one that begins anew is another."""
    path = run / "wandb-id"
    if new or not path.is_file():
        write_atomically(path, secrets.token_hex(8).encode())
    return path.read_text(encoding="ascii").strip()


def _numbers(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        where = f"{path}/{key}"
        if isinstance(value, Mapping):
            yield from _numbers(value, where)
        elif isinstance(value, bool | int | float):
            yield where, float(value)
