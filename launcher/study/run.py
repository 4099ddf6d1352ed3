"""Run a study (`d2tv study`): its trainings one after the other, then its table, claims and cost.

After a kill the same command continues: finished trainings are kept, and a begun one continues from its checkpoint. A
copy of the directory, under another path, on another machine and with another number of ranks, continues as well.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from launcher.study.begun import BEGUN, check_definition, keep_definition
from launcher.study.costs import COSTS, Meter
from launcher.study.definition import Trial, load_study, trials
from launcher.study.results import RESULTS, write_results
from launcher.supervise import supervise
from shards.errors import InputError
from shards.files.write import check_output
from shards.format.index import open_corpus
from trainer.checkpoint.directory import damage, step_of, whole_checkpoints
from trainer.ds_config import load_ds_config
from trainer.evaluation.compare.significance import check_samples
from trainer.liveness.exit_codes import FINISHED
from trainer.terminal.progress import stage
from trainer.terminal.text import Console
from trainer.trained_files import RECIPE, check_same_corpus
from trainer.verdicts import check_same_recipe, evaluated_checkpoint, is_evaluated

#: Files of a checkpoint that are compared with the study.
_READ = (RECIPE, "ds_config.json", "state.json")


def study(
    name: str,
    out: Path | None,
    *,
    ds_config: Path,
    ranks: int | None,
    samples: int,
    overrides: Sequence[str],
    command: str,
) -> int:
    """Train what is unfinished and write the results; return the exit code of a training that did not finish, else 0.

    out: studies/NAME by default.  samples: resamples of the bootstrap.  command: quoted in the results.
    Raises `InputError`, before anything is trained where the error can be found by then.
    """
    check_samples(samples)
    definition = load_study(name)
    out = out or Path("studies") / Path(name).stem
    planned = trials(definition, out, ds_config=ds_config, ranks=ranks, overrides=overrides)
    _check_results(out, planned)
    check_definition(definition, out)
    finished = [is_finished(trial) for trial in planned]  # all are checked before hours of work on the first
    keep_definition(definition, out)
    console = Console(soft_wrap=True)
    for number, (trial, is_done) in enumerate(zip(planned, finished, strict=True), 1):
        what = f"{number} of {len(planned)}: {trial.model}, seed {trial.seed}"
        if is_done:
            console.print(f"{what}: finished before")
            continue
        console.rule(what)
        with Meter(out, trial.run.name):
            code = supervise(trial.job)
        if code != FINISHED:
            return code
        if not is_finished(trial):
            raise InputError(f"{trial.run} holds no test evaluation of its last checkpoint: see {trial.run}")
    with stage("comparing the models"):
        write_results(definition, planned, out, samples=samples, command=command, console=console)
    return FINISHED


def _check_results(out: Path, planned: Sequence[Trial]) -> None:
    """Raise `InputError` for results in `out` that no study has written, or that cannot be written."""
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{out} is no directory: choose another --out")
    if not out.is_dir():
        return
    for name in (*RESULTS, COSTS, BEGUN):
        check_output(out / name, "choose another --out")
    begun = (out / COSTS).is_file() or any((trial.run / "metrics.jsonl").is_file() for trial in planned)
    others = [name for name in RESULTS if (out / name).exists()]
    if others and not begun:
        raise InputError(f"{out / others[0]} is not of a study, and would be replaced: choose another --out")


def is_finished(trial: Trial) -> bool:
    """Return True if a training took its last step and was evaluated with the settings that the study has now.

    Raises `InputError` where what lies there was trained with another recipe or corpus than the study has now.
    """
    evaluated = evaluated_checkpoint(trial.run)
    # A copy that was cut off may lack files: the training itself says so, and goes on from the one before.
    sound = (path for path in whole_checkpoints(trial.run / "checkpoints") if damage(path, _READ) is None)
    found = evaluated or next(sound, None)
    if found is not None:
        config = load_ds_config(trial.job.ds_config, trial.recipe, 1)
        check_same_recipe(trial.recipe, config, found, "choose another --out, or remove it")
        corpus = open_corpus(trial.recipe.corpus.path)
        check_same_corpus(found, corpus.content_hash, str(corpus.directory))
    return (
        evaluated is not None
        and step_of(evaluated) == trial.recipe.training.steps
        and is_evaluated(trial.recipe, evaluated)
    )
