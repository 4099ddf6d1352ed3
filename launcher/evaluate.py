"""Run `d2tv evaluate`: decode and score, then write a page of the results."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shards.corpora.iglue.layouts import LAYOUTS
from shards.errors import InputError
from trainer.evaluation.foreign import is_foreign
from trainer.evaluation.report import Evaluated

if TYPE_CHECKING:
    from trainer.evaluation.robustness.plan import Wanted


def evaluate(
    where: Path,
    split: str,
    overrides: Sequence[str],
    directions: str | None = None,
    wanted: "Wanted | None" = None,
    corpus: str | None = None,
    product: str | None = None,
    task: str | None = None,
    data: Path | None = None,
) -> None:
    """Decode and score `split` of what was trained; write its predictions, scores and page into evaluation/.

    where: or a file of predictions, which are scored on `corpus` (trainer/evaluation/foreign_evaluation.py).
    directions, task: as the overrides evaluation.directions= and evaluation.task=.  task, data: or a data set of IGLUE,
    and the directory of its files or of a corpus prepared from them.
    wanted: perturbations, which have a page of their own.
    product: the name of another network of the objective than its first. Raises `InputError`.
    """
    name = task if task in LAYOUTS else None
    task = "classification" if name else task
    overrides = with_option(with_option(overrides, "directions", directions), "task", task)
    if (name is None) != (data is None):
        raise InputError(f"--data DIR and --task {' or '.join(LAYOUTS)} go together: give both, or neither")
    if data is not None and (given := [override for override in overrides if override.startswith("corpus.path=")]):
        raise InputError(f"--data {data} and {given[0]}: give one of them")

    from launcher.evaluation_page import write_evaluation_page
    from trainer.evaluation.foreign_evaluation import evaluate_foreign

    def show(done: Evaluated) -> None:
        if done.report["by_kind"]:  # a page shows what was written
            print(f"page: {write_evaluation_page(done)}")

    if is_foreign(where):
        if wanted is not None:
            raise InputError(f"--perturb: {where} is a file of predictions, there is no model to perturb the input of")
        if product is not None:
            raise InputError(f"--product: {where} is a file of predictions, there is no network to choose")
        show(evaluate_foreign(where, split, corpus, overrides))
        return
    if corpus is not None:
        raise InputError(f"--corpus is for a file of predictions: for {where}, corpus.path={corpus}")
    from trainer.standalone import evaluate as decode_and_score

    with contextlib.ExitStack() as stack:
        other = None
        if name is not None and data is not None:
            from launcher.preparation.held_out import held_out_corpus
            from trainer.trained_files import RECIPE, find_trained, trained_recipe

            needs = trained_recipe(find_trained(where, [RECIPE]), overrides).needs
            other = stack.enter_context(held_out_corpus(name, data, split, pixels="pixels" in needs))
        done = decode_and_score(where, split, overrides, wanted, show, product, other)
    if done.robustness is not None:
        from launcher.robustness import show_robustness

        show_robustness(done.where, done.robustness)


def with_option(overrides: Sequence[str], name: str, wanted: str | None) -> list[str]:
    """Return the overrides with evaluation.NAME=WANTED among them. `InputError` where they give another."""
    if wanted is None:
        return list(overrides)
    for override in overrides:
        key, _, value = override.partition("=")
        if key == f"evaluation.{name}" and value != wanted:
            raise InputError(f"--{name} {wanted} and {override}: give one of them")
    return [*overrides, f"evaluation.{name}={wanted}"]
