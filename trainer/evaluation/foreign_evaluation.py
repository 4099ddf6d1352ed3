"""Evaluate a file with any system's predictions: scores, baselines and report are those of a run.

The results of FOLDER/NAME.jsonl lie in FOLDER/NAME/evaluation, so that FOLDER/NAME can be compared like a run. Torch is
imported only where a model scores.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.directions import parse_directions
from shards.errors import InputError
from shards.format.index import open_corpus
from shards.printable import one_line
from trainer.evaluation.closing_table import print_report
from trainer.evaluation.foreign import match, read_foreign
from trainer.evaluation.kept import only_one
from trainer.evaluation.report import Evaluated, score_and_write
from trainer.evaluation.scoring.models import check_models, models_of
from trainer.evaluation.scoring.score import score
from trainer.recipe import Recipe, load_recipe
from trainer.terminal.log import log
from trainer.terminal.progress import stage

#: Keys of a recipe that apply to given predictions.
_SETTINGS = ("directions", "rouge", "labse", "bertscore", "sentence_similarity", "seed")
_KEYS = ("corpus.path", *(f"evaluation.{name}" for name in _SETTINGS))
#: Names in a run, a checkpoint or an exported model.
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
        pairs = found.pairs(opened, reader)
        facts: dict[str, Any] = {
            "checkpoint": digest,
            "settings": settings.model_dump(mode="json", include=set(_SETTINGS) - {"seed"}),
            "languages": None,
            "lengths": {},
            "corpus": opened.content_hash,
        }
        head = {
            "split": split,
            "system": {"name": one_line(path.stem), "file": str(path), "lines": dict(found.counts)},
            **facts,
            "examples": len(pairs),
            "unreadable": 0,
            "rouge": {},  # its place among the keys
        }
        report = score_and_write(
            where,
            head,
            facts,
            found.examples,
            pairs,
            corpus=opened,
            reader=reader,
            scorer=functools.partial(score, profile=settings.rouge, models=models),
            nll={},
        )
    finally:
        if lock is not None:
            lock.release()
        reader.close()
    print_report(report, [], where)
    for line in found.describe():
        log.info(f"{path}: {line}")
    return Evaluated(recipe=recipe, where=where, corpus=opened, report=report)


def _recipe(path: Path, where: Path, corpus: str | None, overrides: Sequence[str]) -> Recipe:
    """Return the settings of scoring, with `run` where the results go."""
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
