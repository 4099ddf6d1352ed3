"""Evaluation after training: of a run, one of its checkpoints or an exported model; no optimizer, one process."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shards.index import Corpus, open_corpus
from shards.tokenizer import open_tokenizer
from trainer.build import build_evaluator
from trainer.distributed import group_of_one
from trainer.evaluation.closing_table import print_report
from trainer.evaluation.robustness.plan import Wanted
from trainer.evaluation.robustness.run import check_wanted, finished, measure
from trainer.plan import check_corpus, check_lengths
from trainer.progress import stage
from trainer.recipe import Recipe
from trainer.trained import check_same_corpus, course_until, find_trained, trained_network, trained_recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A finished evaluation and what it was of. Its files lie in evaluation/ of `recipe.run`.

    robustness: what perturbations cost, where they were asked for.
    """

    recipe: Recipe
    corpus: Corpus
    report: dict[str, Any]
    robustness: dict[str, Any] | None = None


def evaluate(
    where: Path,
    split: str,
    overrides: Sequence[str],
    wanted: Wanted | None = None,
    when_clean: Callable[[Evaluated], None] = lambda _: None,
) -> Evaluated:
    """Decode and score `split`, print the table, write evaluation/: in the run, or in the exported model.

    where: a run (its newest whole checkpoint), a checkpoint, or an exported model. wanted: perturbations, for which an
    evaluation that is there already is the clean one, if it is of the same weights and settings. when_clean: is given
    the evaluation before the perturbations begin. Raises `InputError`.
    """
    path = find_trained(where)
    recipe = trained_recipe(path, overrides)
    with stage("opening the corpus"):
        corpus = open_corpus(recipe.corpus.path)
    check_same_corpus(path, corpus.content_hash, str(corpus.directory))
    check_corpus(recipe, corpus)
    tokenizer = open_tokenizer(recipe.corpus.tokenizer or corpus.directory / "tokenizer")
    check_lengths(recipe, tokenizer)
    with group_of_one() as (alone, device), contextlib.ExitStack() as leaving:
        with stage("loading the model"):
            network = trained_network(recipe, tokenizer, path)
        evaluator = build_evaluator(recipe, corpus, tokenizer, alone, device)
        leaving.callback(evaluator.reader.close)
        network.to(device).eval()
        report = finished(evaluator, split, path) if wanted is not None else None
        if wanted is not None and report is None:
            check_wanted(wanted, evaluator, split)  # before the clean evaluation takes its time
        if report is None:
            report = evaluator.run(network, split, path)
            assert report is not None
            print_report(report, course_until(path), recipe.run)
        done = Evaluated(recipe=recipe, corpus=corpus, report=report)
        when_clean(done)
        if wanted is not None:
            done = replace(done, robustness=measure(evaluator, network, split, path, wanted, print))
    return done
