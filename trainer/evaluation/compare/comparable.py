"""Check that evaluations can be compared: scored by one profile of ROUGE, on one corpus' references."""

from collections.abc import Sequence
from pathlib import Path

from shards.errors import InputError
from trainer.evaluation.predictions import Key, read_facts, read_references
from trainer.recipe.profiles import DEFAULT, FORMER, PROFILES, profile_of

_FORMER = " (an earlier release's)"


def one_profile(runs: Sequence[Path], split: str) -> str:
    """Return the profile of all runs, the default where there is none. `InputError` where they have several."""
    found = {run: profile_of(read_facts(run, split)) for run in runs}
    if len(set(found.values())) <= 1:
        return next(iter(found.values()), DEFAULT)
    wanted = next(profile for profile in (*found.values(), DEFAULT) if profile in PROFILES)
    other, run = next((profile, run) for run, profile in found.items() if profile != wanted)
    like = next((run for run, profile in found.items() if profile == wanted), None)
    raise InputError(
        f"{run} was scored by ROUGE's profile {other}{_FORMER if other == FORMER else ''}, {like} by {wanted}, and the "
        f"two do not compare: d2tv evaluate {_run_of(run)} --split {split} evaluation.rouge={wanted}"
    )


def check_scored_again(runs: Sequence[Path], split: str, profile: str | None) -> None:
    """Raise `InputError` where baselines and files would have to be scored by a profile that can no longer be made."""
    if profile == FORMER:
        raise InputError(
            f"{runs[0]} was scored by ROUGE's profile {FORMER}{_FORMER}, which baselines and files are not scored by: "
            f"d2tv evaluate {_run_of(runs[0])} --split {split}"
        )


def check_references(runs: Sequence[Path], split: str, keys: Sequence[Key]) -> None:
    """Raise `InputError` where evaluations of several corpora have other references for the same examples.

    An augmented corpus is another one, and has the same.
    """
    facts = [read_facts(run, split) for run in runs]
    if len({of["corpus"] for of in facts if isinstance(of, dict) and "corpus" in of}) < 2:
        return
    first, *others = runs
    wanted = read_references(first, split)
    for run in others:
        found = read_references(run, split)
        if unlike := next((key for key in keys if found[key] != wanted[key]), None):
            raise InputError(
                f"{run} was evaluated on another corpus than {first}: the summary of {unlike[0]} in {unlike[2]} is "
                "another there; compare evaluations of one corpus"
            )


def _run_of(run: Path) -> Path:
    """Return the run that has the evaluation."""
    return run.parent.parent if run.parent.name == "evaluation" else run
