"""Refuse to begin in a directory with files of others, which a run would replace."""

from pathlib import Path

from shards.errors import InputError
from trainer.recipe import load_recipe
from trainer.telemetry.metrics import parse_record


def check_run_files(run: Path) -> None:
    """Raise `InputError` for a recipe.yaml or metrics.jsonl in `run` that no run has written.

    For a run without a checkpoint, which begins anew. A run's own recipe.yaml is what `d2tv recipe` prints of it, and
    its metrics.jsonl has a record of every start.
    """
    metrics = run / "metrics.jsonl"
    if metrics.is_file():
        if metrics.stat().st_size and not _has_start(metrics):
            raise _not_ours(metrics)
    elif (run / "recipe.yaml").is_file() and not _is_resolved(run / "recipe.yaml"):
        raise _not_ours(run / "recipe.yaml")


def _has_start(metrics: Path) -> bool:
    with open(metrics, "rb") as file:
        return any((record := parse_record(line)) is not None and record.get("kind") == "start" for line in file)


def _is_resolved(recipe: Path) -> bool:
    try:
        return load_recipe(str(recipe)).dump() == recipe.read_text(encoding="utf-8")
    except ValueError:  # InputError, and bytes that are no UTF-8
        return False


def _not_ours(path: Path) -> InputError:
    return InputError(
        f"{path} was not written by a run, and this one would replace it: move it, or choose another run="
    )
