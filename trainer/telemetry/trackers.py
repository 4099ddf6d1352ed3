"""TensorBoard and Weights & Biases, through their own libraries: what metrics.jsonl tells, for those who look there.

Both are extras (`pip install 'd2tv[tensorboard]'`, `'d2tv[wandb]'`). Rank 0 only. Nothing that goes wrong with one ends
a run: it is said once, and that one gets no more.
"""

import importlib.util
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from shards.errors import InputError, reason
from shards.files.write import write_atomically
from trainer.recipe import Recipe
from trainer.recipe.sections import TrackingSection

#: Records whose numbers are a course over steps. Those by direction are too many: they are in metrics.jsonl alone.
_KINDS = ("train", "validation", "checkpoint", "spike", "evaluation")
#: Keys of a record that are no course.
_NO_COURSE = ("kind", "step", "time", "directions")


#: How long W&B may take to send what is left at the end.
_FINISH_SECONDS = 60.0


class Tracker(Protocol):
    """One destination."""

    name: str

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step, by their path like train/loss/mms."""
        ...

    def rewind(self, step: int) -> None:
        """What was told of later steps will come again."""
        ...

    def close(self, failed: bool) -> None:
        """Everything is told. failed: the run ends with an error."""
        ...


class Trackers:
    """All that a recipe asks for, behind one record at a time."""

    def __init__(self, trackers: Sequence[tuple[str, Callable[[], Tracker]]]) -> None:
        """trackers: (name, how to open it)."""
        self._trackers: list[Tracker] = []
        for name, opened in trackers:
            self._attempt(name, lambda opened=opened: self._trackers.append(opened()))  # type: ignore[misc]

    def tell(self, record: Mapping[str, Any]) -> None:
        """A record of metrics.jsonl."""
        kind = record["kind"]
        if not self._trackers or kind not in _KINDS:
            return
        course = {key: value for key, value in record.items() if key not in _NO_COURSE}
        values = dict(_numbers(course, kind))
        self._each(lambda tracker: tracker.log(values, int(record["step"])))

    def rewind(self, step: int) -> None:
        """The run goes back to `step`."""
        self._each(lambda tracker: tracker.rewind(step))

    def close(self, *, failed: bool = False) -> None:
        """A second call does nothing."""
        self._each(lambda tracker: tracker.close(failed))
        self._trackers.clear()

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            if not self._attempt(tracker.name, lambda tracker=tracker: action(tracker)):  # type: ignore[misc]
                self._trackers.remove(tracker)

    def _attempt(self, name: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # their libraries raise what they like, also their transports' errors
            what = reason(error, 1000)
            print(f"warning: {name} gets no more of this run: {what}", file=sys.stderr, flush=True)
            return False
        return True


def check_trackers(settings: TrackingSection) -> None:
    """Whether the libraries are there. `InputError` names the one that is not."""
    for name, wanted in (("tensorboard", settings.tensorboard), ("wandb", settings.wandb is not None)):
        if wanted and importlib.util.find_spec(name) is None:
            raise InputError(f"tracking.{name} needs the package {name}: pip install 'd2tv[{name}]', or unset the key")


def open_trackers(recipe: Recipe, resume_step: int | None) -> Trackers:
    """resume_step: where a run goes on; None where it begins."""
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

        # What an earlier start told of these steps and later ones is not shown any more.
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
            settings=wandb.Settings(silent=True, console="off", disable_git=True, finish_timeout=_FINISH_SECONDS),
        )
        # Its own step never goes back; a run does, to a checkpoint.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def rewind(self, step: int) -> None:
        """Curves are over `step`, so what comes again lies over what was there."""

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _wandb_id(run: Path, *, new: bool) -> str:
    """Kept in the run directory: all starts of a run are one W&B run, and a run that begins anew is another."""
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
