"""Evaluate a run, one of its checkpoints or an exported model, in one process without an optimizer."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.text.tokenizer import open_tokenizer
from trainer.assemble import build_evaluator
from trainer.checkpoint.directory import MANIFEST, read_state, step_of, whole_checkpoints
from trainer.checkpoint.tidying import reading
from trainer.distributed import group_of_one
from trainer.evaluation.closing_table import print_report
from trainer.evaluation.kept import choose, only_one
from trainer.evaluation.report import Evaluated, facts_of
from trainer.evaluation.robustness.plan import Wanted
from trainer.evaluation.robustness.run import check_wanted, finished, measure
from trainer.evaluation.tasks import run_task
from trainer.plan import check_corpus, check_lengths
from trainer.recipe import load_saved_recipe
from trainer.telemetry.metrics import validation_history
from trainer.terminal.progress import stage
from trainer.trained import recipe_of, trained_product
from trainer.trained_files import RECIPE, check_same_corpus, find_trained, run_of, trained_recipe


def evaluate(
    where: Path,
    split: str,
    overrides: Sequence[str],
    wanted: Wanted | None = None,
    when_clean: Callable[[Evaluated], None] = lambda _: None,
    product: str | None = None,
    data: Corpus | None = None,
) -> Evaluated:
    """Decode and score `split`, print the table, write evaluation/: in the run, or in the exported model.

    An evaluation of something else than the run's own is kept in a directory of its own under evaluation/.

    where: a run (its newest whole checkpoint), a checkpoint, or an exported model. wanted: perturbations, for which an
    evaluation that is there already is the clean one, if it is of the same weights and settings. when_clean: is given
    the evaluation before the perturbations begin. product: the name of another network of the objective than its first.
    data: a corpus to evaluate on in place of the run's own, whose tokenizer it is read with. Raises `InputError`.
    """
    path = find_trained(where)
    recipe = trained_recipe(path, overrides)
    if wanted is not None and recipe.evaluation.task != "summarization":
        raise InputError(f"--perturb changes documents and images of summaries: leave out {recipe.evaluation.task}")
    own = None
    if data is None or recipe.corpus.tokenizer is None:
        with stage("opening the corpus"):
            own = open_corpus(recipe.corpus.path)
        check_same_corpus(path, own.content_hash, str(own.directory))
    corpus = data or own
    assert corpus is not None  # one of both is there
    words = recipe.corpus.tokenizer or (own or corpus).tokenizer
    tokenizer = open_tokenizer(words, recipe.corpus.start_tokens)
    check_corpus(recipe, corpus)
    check_lengths(recipe, tokenizer)
    with reading(path), group_of_one() as (alone, device), contextlib.ExitStack() as leaving:
        with stage("loading the model"):
            found = trained_product(recipe, tokenizer, path, product)
        network, recipe = found.network, recipe_of(recipe, found)
        check_lengths(recipe, tokenizer)  # another product may have other positions
        evaluator = replace(build_evaluator(recipe, corpus, tokenizer, alone, device), product=found.name)
        leaving.callback(evaluator.reader.close)
        results = _results(recipe.run, split, evaluator.facts(path), path, found.first)
        if results != recipe.run:
            evaluator = replace(evaluator, kept_in=results)
        leaving.callback(only_one(results, split).release)
        network.to(device).eval()
        report = finished(evaluator, split, path) if wanted is not None else None
        if wanted is not None and report is None:
            check_wanted(wanted, evaluator, split)  # before the clean evaluation takes its time
        if report is None:
            report = run_task(evaluator, found, split, path)
            assert report is not None
            history = validation_history(run_of(path) / "metrics.jsonl", read_state(path).step)
            print_report(report, history, results)
        done = Evaluated(recipe=recipe, where=results, corpus=corpus, report=report)
        when_clean(done)
        if wanted is not None:
            done = replace(done, robustness=measure(evaluator, network, split, path, wanted, print))
    return done


def _results(run: Path, split: str, facts: Mapping[str, Any], path: Path, first: str | None) -> Path:
    """Return where an evaluation of `facts`, of the checkpoint or model `path`, belongs in `run`.

    first: the run's own product, where there are several.
    """
    state = read_state(path)
    newest = next((found for found in whole_checkpoints(run / "checkpoints") if (found / MANIFEST).is_file()), path)
    # The settings of an evaluation may have changed since the checkpoint was written.
    recipe = load_saved_recipe(run / RECIPE) if (run / RECIPE).is_file() else trained_recipe(path)
    step = step_of(newest) if newest != path else state.step
    own = {**facts_of(recipe, newest, state.corpus, first), "step": step}
    return choose(run, split, {**facts, "step": state.step}, own)
