"""`d2tv study`: every training of a study one after the other, then its table, its claims and what it cost.

Killed, the same command goes on: what is finished is not trained again, and a training goes on from its checkpoint.
"""

import json
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.comparison.significance import check_samples
from launcher.study.definition import Trial, load_study, trials
from launcher.study.results import COSTS, RESULTS, write_results
from launcher.supervise import supervise
from shards.errors import InputError
from shards.files import check_output
from shards.index import open_corpus
from trainer.checkpoint import find_identity, whole_checkpoints
from trainer.evaluation.report import read_report
from trainer.exit_codes import FINISHED
from trainer.plan import FREE_SECTIONS
from trainer.progress import stage
from trainer.recipe import load_saved_recipe
from trainer.terminal import Console
from trainer.trained import RECIPE, check_same_corpus


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
    """Train what is not trained yet, and write what `write_results` writes; the exit code of the training that did not
    finish, else 0.

    out: studies/NAME by default. samples: resamples of the bootstrap. command: what the results quote.
    Raises `InputError` before anything is trained for whatever can be seen to be wrong by then.
    """
    check_samples(samples)
    definition = load_study(name)
    out = out or Path("studies") / Path(name).stem
    planned = trials(definition, out, ds_config=ds_config, ranks=ranks, overrides=overrides)
    _check_results(out, planned)
    console = Console(soft_wrap=True)
    for number, trial in enumerate(planned, 1):
        what = f"{number} of {len(planned)}: {trial.model}, seed {trial.seed}"
        if is_finished(trial):
            console.print(f"{what}: finished before")
            continue
        console.rule(what)
        code = _train(trial, out)
        if code != FINISHED:
            return code
        if not is_finished(trial):
            raise InputError(f"{trial.run} holds no test evaluation of its last checkpoint: see {trial.run}")
    with stage("comparing the models"):
        write_results(definition, planned, out, samples=samples, command=command, console=console)
    return FINISHED


def _check_results(out: Path, planned: Sequence[Trial]) -> None:
    """Raise `InputError` for results in `out` that no study has written, or that cannot be."""
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{out} is no directory: choose another --out")
    if not out.is_dir():
        return
    for name in (*RESULTS, COSTS):
        check_output(out / name, "choose another --out")
    begun = (out / COSTS).is_file() or any((trial.run / "metrics.jsonl").is_file() for trial in planned)
    others = [name for name in RESULTS if (out / name).exists()]
    if others and not begun:
        raise InputError(f"{out / others[0]} is not of a study, and would be replaced: choose another --out")


def is_finished(trial: Trial) -> bool:
    """Trained to its last step, and evaluated with the settings that the study has now.

    Raises `InputError` where what lies there was trained with another recipe or corpus than the study has now.
    """
    checkpoints = trial.run / "checkpoints"
    report = read_report(trial.run, "test")
    # What was evaluated; the newest directory may be damaged, and another one was read.
    evaluated = None if report is None else find_identity(checkpoints, report.get("checkpoint"))
    found = evaluated or next(iter(whole_checkpoints(checkpoints)), None)
    if found is not None:
        before = load_saved_recipe(found / RECIPE).model_dump(mode="json")
        now = trial.recipe.model_dump(mode="json")
        for values in (before, now):
            del values["corpus"]["path"]  # its content is compared instead
            if values["corpus"]["tokenizer"] is None:
                del values["corpus"]["start_tokens"]  # of mT5's tokenizers alone
        differ = [section for section in now if section not in FREE_SECTIONS and before[section] != now[section]]
        if differ:
            raise InputError(
                f"{trial.run} was trained with another {differ[0]} than this study has: choose another --out, or "
                "remove it"
            )
        corpus = open_corpus(trial.recipe.corpus.path)
        check_same_corpus(found, corpus.content_hash, str(corpus.directory))
    wanted = trial.recipe.evaluation.model_dump(mode="json")
    return (
        evaluated is not None
        and report is not None
        and report.get("step") == trial.recipe.training.steps
        and report.get("settings") == wanted
    )


def _train(trial: Trial, out: Path) -> int:
    """One training to its end; what it took is written down whatever its end."""
    began, used = time.monotonic(), _cpu_seconds()
    try:
        return supervise(trial.job)
    finally:
        cost = {
            "run": trial.run.name,
            "wall_seconds": time.monotonic() - began,
            "cpu_seconds": _cpu_seconds() - used,
        }
        try:
            out.mkdir(parents=True, exist_ok=True)
            with open(out / COSTS, "a", encoding="utf-8") as file:
                file.write(json.dumps(cost) + "\n")
        except OSError as error:
            raise InputError(f"{out / COSTS} cannot be written ({error.strerror}): the same command goes on") from error


def _cpu_seconds() -> float:
    """Of all processes that this one has waited for, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
