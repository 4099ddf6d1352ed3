"""Evaluate the predictions of any system, which came in a file: scores, baselines and report as a run's have.

The results of FOLDER/NAME.jsonl lie in FOLDER/NAME/evaluation, so that FOLDER/NAME can be compared like a run.
Imports no torch, where no model scores.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.directions import parse_directions
from shards.errors import InputError
from shards.format.index import open_corpus
from shards.printable import one_line
from trainer.evaluation.averages import languages_found, summarise, training_pairs
from trainer.evaluation.baselines.compute import as_rows, compute, pair_of
from trainer.evaluation.baselines.report import baselines_report
from trainer.evaluation.closing_table import print_report
from trainer.evaluation.evaluated import Evaluated
from trainer.evaluation.foreign import match, read_foreign
from trainer.evaluation.kept import only_one
from trainer.evaluation.results import write_results
from trainer.evaluation.scoring.models import check_models, models_of
from trainer.evaluation.scoring.score import score
from trainer.evaluation.scoring.similarity import SIMILARITY, facts_of_similarity
from trainer.recipe import Recipe, load_recipe
from trainer.terminal.progress import stage

#: Keys of a recipe that mean something for predictions that are there already.
_SETTINGS = ("directions", "rouge", "labse", "bertscore", "sentence_similarity", "seed")
_KEYS = ("corpus.path", *(f"evaluation.{name}" for name in _SETTINGS))
#: What a run, a checkpoint or an exported model holds.
_OF_A_RUN = ("recipe.yaml", "metrics.jsonl", "checkpoints", "manifest.json")


def evaluate_foreign(path: Path, split: str, corpus: str | None, overrides: Sequence[str]) -> Evaluated:
    """Score the predictions in `path` on `split`, print the table, write the results beside it.

    corpus: its directory or URL; None: the override corpus.path. Raises `InputError`.
    """
    where = path.parent / path.stem
    recipe = _recipe(path, where, corpus, overrides)
    settings = recipe.evaluation
    models = models_of(settings)
    check_models(models)
    lines, digest = read_foreign(path)
    with stage("opening the corpus"):
        opened = open_corpus(recipe.corpus.path)
    directions = parse_directions(settings.directions, opened.languages)
    reader = recipe.loader.open(opened)
    lock = None
    try:
        found = match(lines, opened, reader, split, path, directions)
        lock = only_one(where, split)
        pairs = [
            pair_of(opened, reader, example, text)
            for example, text in zip(found.examples, found.predictions, strict=True)
        ]
        scored = functools.partial(score, profile=settings.rouge, models=models)
        scores = scored(pairs)
        rows, measures = as_rows(found.examples, pairs, scores), list(scores.columns)
        baselines = compute(opened, reader, found.examples, scored, profile=settings.rouge)
        trained_on = training_pairs(opened)
        facts: dict[str, Any] = {
            "checkpoint": digest,
            "settings": settings.model_dump(mode="json", include=set(_SETTINGS) - {"seed"}),
            "languages": None,
            "lengths": {},
            "corpus": opened.content_hash,
        }
        report = {
            "split": split,
            "system": {"name": one_line(path.stem), "file": str(path), "lines": dict(found.counts)},
            **facts,
            "examples": len(rows),
            "unreadable": 0,
            "rouge": scores.rouge,
            **summarise(rows, measures, trained_on),
            **baselines_report(rows, baselines, trained_on),
            "languages_found": languages_found(rows),
            "nll": {},
        }
        if SIMILARITY in measures:
            report[SIMILARITY] = facts_of_similarity([(row.target, row.scores) for row in rows])
        write_results(where, report, rows, measures, baselines, facts)
    finally:
        if lock is not None:
            lock.release()
        reader.close()
    print_report(report, [], where)
    for told in found.describe():
        print(f"{path}: {told}")
    return Evaluated(recipe=recipe, where=where, corpus=opened, report=report)


def _recipe(path: Path, where: Path, corpus: str | None, overrides: Sequence[str]) -> Recipe:
    """The settings that scoring takes, with `run` where the results go."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in _KEYS:
            raise InputError(
                f"{key}: predictions in a file are scored, not decoded; what can be set: {', '.join(_KEYS)}"
            )
        if key == "corpus.path" and corpus not in (None, value):
            raise InputError(f"--corpus {corpus} and {override}: give one of them")
    if corpus is None and not any(override.startswith("corpus.path=") for override in overrides):
        raise InputError(f"{path} does not say what it is of: name the corpus by --corpus DIR")
    if where.exists() and (not where.is_dir() or any((where / name).exists() for name in _OF_A_RUN)):
        raise InputError(f"the scores of {path} belong in {where}/evaluation, but {where} is something else: rename it")
    named = [] if corpus is None else [f"corpus.path={corpus}"]
    return load_recipe("d2tv", [f"run={where}", *named, *overrides])
