"""Verdicts on a run, from its files: is it of this recipe, is it evaluated, is it finished?"""

from pathlib import Path
from typing import Any

from shards.batch.fields import picture_side
from shards.errors import InputError
from trainer.checkpoint.directory import find_identity, identity, read_state, step_of, whole_checkpoints
from trainer.ds_config import arithmetic, precision_of, read_saved_ds_config
from trainer.evaluation.report import read_report
from trainer.recipe import Recipe, load_saved_recipe
from trainer.telemetry.metrics import read_metrics

#: A resumed run may change these: they touch neither the sequence of examples nor the mathematics.
_FREE_SECTIONS = {"run", "evaluation", "prometheus", "loader", "validation", "checkpoint", "watchdog", "tracking"}
_FREE_SECTIONS |= {"references"}  # their hashes are compared instead (trainer/references.py)
_FREE_KEYS = {
    "corpus": {"path", "start_tokens"},  # its content, and the tokens themselves, are compared instead
    "training": {
        *("log_every", "validate_every", "max_skipped_steps", "spike_deviations"),
        *("activation_checkpointing", "compile"),
        "precision",  # the DeepSpeed keys that it resolves to are compared instead
    },
}


def evaluated_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint that the run's own test evaluation is of; None without one, or where it is gone.

    It need not be the newest directory, which may be damaged. Raises `InputError` for a damaged report.
    """
    report = read_report(run, "test")
    return None if report is None else find_identity(run / "checkpoints", report.get("checkpoint"))


def is_evaluated(recipe: Recipe, checkpoint: Path) -> bool:
    """Return True if the run's own test evaluation is of this checkpoint, with the recipe's settings."""
    report = read_report(recipe.run, "test")
    wanted = (identity(checkpoint), recipe.evaluation.facts())
    return report is not None and (report.get("checkpoint"), report.get("settings")) == wanted


def is_finished(run: Path, steps: int) -> bool:
    """Return True if a run has taken its `steps` steps, and is evaluated or has recorded its end.

    Raises `OSError` or `ValueError` where its files cannot be read.
    """
    newest = next(iter(whole_checkpoints(run / "checkpoints")), None)
    if newest is None or step_of(newest) < steps:
        return False
    evaluated = evaluated_checkpoint(run)
    if evaluated is not None and step_of(evaluated) >= steps:
        return True
    log = run / "metrics.jsonl"
    return log.is_file() and [record.get("outcome") for record in read_metrics(log)[-1:]] == ["finished"]


def check_same_recipe(
    recipe: Recipe, ds_config: dict[str, Any], checkpoint: Path, instead: str = "choose another run="
) -> None:
    """Raise `InputError`, which names the first key, unless recipe and precision are those of the checkpoint.

    instead: what is proposed beside restoring it.
    """
    before = read_saved_ds_config(checkpoint)
    begun_in, going_on_in = arithmetic(before), arithmetic(ds_config)
    for key in begun_in:
        if begun_in[key] != going_on_in[key]:
            raise InputError(
                f"{recipe.run} was begun in {precision_of(before)}, with another {key!r} in --ds_config or by "
                f"training.precision: restore it, or {instead}"
            )
    saved = load_saved_recipe(checkpoint / "recipe.yaml").model_dump(mode="json")
    now = recipe.model_dump(mode="json")
    attempts = read_state(checkpoint).attempts
    for values in (saved["mixture"], now["mixture"]):
        # What the mixture becomes later may still be decided.
        values["changes"] = [change for change in values.get("changes", ()) if change["from_step"] < attempts]
    for section in now:
        if section in _FREE_SECTIONS or saved.get(section) == now[section]:
            continue
        values = (saved[section], now[section])
        keys = [key for key in sorted(values[0] | values[1]) if values[0].get(key) != values[1].get(key)]
        keys = [key for key in keys if key not in _FREE_KEYS.get(section, ())]
        sees_images = recipe.network.vision.enabled or picture_side(recipe.needs)
        if section == "objective":  # what it took from the corpus, whose content is compared instead
            taken = recipe.objective.settings().from_corpus
            keys = [key for key in keys if key not in taken or now[section].get(key) is not None]
        if section == "corpus" and not sees_images:
            keys = [key for key in keys if key != "images"]
        if section == "mixture" and keys == ["changes"]:
            raise InputError(
                f"{recipe.run} was begun with another mixture.changes before step {attempts}: restore them (from_step "
                f"{attempts} and later are free), or {instead}"
            )
        if keys:
            raise InputError(
                f"{recipe.run} was begun with another {section}.{keys[0]}{_value(values[0].get(keys[0]))}: restore it, "
                f"or {instead}"
            )


def _value(value: Any) -> str:
    return f" ({value})" if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
