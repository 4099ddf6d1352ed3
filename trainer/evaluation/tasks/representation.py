"""Evaluate representations of student and teacher by the class they lead to (AMID, Tables 1, 2 and 4).

Accuracy is the shared classifier's. R@k says for how many held-out examples one of the k nearest training examples of
the same language, by the same model, has their class. Both are of examples with images, which the teacher needs, so
that the columns compare.

Shape suffixes as in trainer/evaluation/scoring/neighbours.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.objectives.amid import Amid
from models.objectives.amid_config import COLUMNS, AmidConfig
from shards.arrays import Ints
from shards.batch.types import StreamBatch
from shards.errors import InputError
from shards.stream.sampler import Groups
from trainer.checkpoint.directory import read_state
from trainer.distributed import raise_together, sum_over_ranks
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import choose_examples, in_batches, share_of_rank
from trainer.evaluation.predictions import Prediction, write_predictions
from trainer.evaluation.report import write_report
from trainer.evaluation.scoring.neighbours import FIGURES, MEASURES, found_among_neighbours
from trainer.evaluation.tasks.labels import check_labels
from trainer.evaluation.tasks.zero_shot import trained_targets, zero_shot_means
from trainer.terminal.progress import stage
from trainer.trained import Product

#: Column -> figures of each example, in per cent.
Scores = Mapping[str, NDArray[np.float64]]
#: Why an example is left out.
REASONS = ("unreadable", "without_image", "unlabelled")


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Hold what was said of examples that were not left out, in their order.

    rows: their articles in the index.  class_N: their own, -1 for one that is no class.  chosen: column -> likeliest
    class (N,).  said: column -> representation (N, R) float32.  left_out: reason -> examples.
    """

    rows: Ints
    class_N: Ints
    chosen: Mapping[str, Ints]
    said: Mapping[str, NDArray[np.float32]]
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Hold what was judged.  gallery: training examples, whatever `evaluation.examples_per_kind` is."""

    held: Judged
    gallery: Judged


class Representation:
    """Judge held-out and training examples by the objective's models, and compare them on the first rank."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def predict(self, evaluator: Evaluator, product: Product, split: str, checkpoint: Path) -> Found:
        """Return what the models say, of the recipe's directions within a language. Every rank takes its share."""
        objective = product.objective
        if not isinstance(objective, Amid):
            raise InputError(
                f"evaluation.task=representation judges by the objective's classifier, which {checkpoint} has not: "
                "name the run or one of its checkpoints"
            )
        check_labels(evaluator, objective.config, split)
        objective.to(evaluator.device)  # the classifier, too
        corpus, directions = evaluator.corpus, evaluator.recipe.evaluation.directions
        within = [pair for pair in evaluator.directions() if pair[0] == pair[1]]
        total = evaluator.recipe.evaluation.examples_per_kind
        wanted = choose_examples(corpus, split, within, total=total)
        if not len(wanted.number):
            raise InputError(
                f"evaluation.task=representation judges examples within a language, and evaluation.directions="
                f"{directions} leaves none of {split}: set it to mms, or to pairs like en-en,de-de"
            )
        held = _judge(evaluator, objective, wanted, "judging examples")
        if not len(held.rows):
            raise InputError(
                f"evaluation.task=representation wants examples with a label and an image, and evaluation.directions="
                f"{directions} has none of {split}: see d2tv inspect, and choose another corpus.path"
            )
        gallery = choose_examples(corpus, "train", within, total=None)
        return Found(held=held, gallery=_judge(evaluator, objective, gallery, "judging the gallery"))

    def score(self, evaluator: Evaluator, found: Found, split: str, checkpoint: Path) -> dict[str, Any]:
        """Write <split>.json, with the part `representation` beside what every report has, and return the report.

        A row of <split>-predictions.parquet is an example: the student's class, its own, and `MEASURES`.
        """
        corpus, settings, left_out = evaluator.corpus, _settings(evaluator), dict(found.held.left_out)
        trained_on = trained_targets(evaluator.recipe, corpus.languages)
        language_N, language_M = (_languages(evaluator, of) for of in (found.held, found.gallery))
        scores = _scores(found, language_N, language_M)
        gallery = np.bincount(language_M, minlength=len(corpus.languages))
        report: dict[str, Any] = {
            "split": split,
            "step": read_state(checkpoint).step,
            **evaluator.facts(checkpoint),
            "data": corpus.manifest["name"],
            "examples": len(found.held.rows),
            "unreadable": left_out.pop("unreadable"),
            "by_kind": {},
            "by_target": {},
            "nll": {},
            "representation": {
                **representation_report(language_N, corpus.languages, scores, gallery, trained_on),
                "classes": len(settings.class_names),
                "target": settings.target,
                "outside": int((found.held.class_N < 0).sum()),
                "left_out": left_out,
            },
        }
        write_report(
            evaluator.where,
            report,
            lambda: write_predictions(
                evaluator.where,
                split,
                _predictions(evaluator, found.held, scores),
                MEASURES,
                evaluator.facts(checkpoint),
            ),
        )
        return report


def representation_report(
    language_N: Ints, languages: Sequence[str], scores: Scores, gallery: Ints, trained_on: set[str]
) -> dict[str, Any]:
    """Return the part `representation` of a report. Figures are in per cent, None where there is no gallery.

    gallery: training examples of each language.  by_language: `examples`, the size of the `gallery`, and `FIGURES` by
    column.  means: the same over languages that have them, those that were `trained` on and the `zero_shot` others.
    """
    by_language: dict[str, dict[str, Any]] = {}
    for language in np.unique(language_N).tolist():
        mine = language_N == language
        by_language[languages[language]] = {
            "examples": int(mine.sum()),
            "gallery": int(gallery[language]),
            **{
                column: {figure: _share(of_NF[mine, place]) for place, figure in enumerate(FIGURES)}
                for column, of_NF in scores.items()
            },
        }
    return {**zero_shot_means(by_language, trained_on, COLUMNS, _mean), "by_language": by_language}


def _scores(found: Found, language_N: Ints, language_M: Ints) -> Scores:
    """Return `FIGURES` of each held-out example, 100 for one that finds its class, NaN where there is no gallery."""
    held, gallery = found.held, found.gallery
    scores = {column: np.full((len(held.rows), len(FIGURES)), np.nan) for column in COLUMNS}
    with stage("finding neighbours", len(COLUMNS)) as progress:
        for column, of_NF in scores.items():
            of_NF[:, 0] = held.chosen[column] == held.class_N
            for language in np.intersect1d(language_N, language_M):
                mine, theirs = language_N == language, language_M == language
                of_NF[mine, 1:] = found_among_neighbours(
                    held.said[column][mine], held.class_N[mine], gallery.said[column][theirs], gallery.class_N[theirs]
                )
            progress.advance(1)
    return {column: 100 * of_NF for column, of_NF in scores.items()}


def _share(of_N: NDArray[np.float64]) -> float | None:
    return None if np.isnan(of_N).any() else float(of_N.mean())


def _mean(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    measured = {figure: [value for row in rows if (value := row[figure]) is not None] for figure in FIGURES}
    return {figure: fmean(values) if values else None for figure, values in measured.items()}


def _settings(evaluator: Evaluator) -> AmidConfig:
    settings = evaluator.recipe.objective.settings()
    assert isinstance(settings, AmidConfig), "the objective says which tasks suit it"
    return settings


def _languages(evaluator: Evaluator, judged: Judged) -> Ints:
    """Return the language of each example, as the corpus numbers them."""
    return evaluator.corpus.articles["language"][judged.rows].astype(np.int64)


@torch.no_grad()
def _judge(evaluator: Evaluator, objective: Amid, groups: Groups, what: str) -> Judged:
    """Judge examples by both models; every rank takes its share and has all of the result."""
    ranks, rows = evaluator.ranks, len(groups.number)
    width, mine = objective.config.width, share_of_rank(groups, evaluator.ranks)
    class_N, reason_N = torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, dtype=torch.int64)
    chosen = {column: torch.zeros(rows, dtype=torch.int64) for column in COLUMNS}
    said = {column: torch.zeros(rows, width) for column in COLUMNS}
    problem: InputError | None = None
    try:
        with stage(what, len(mine.number), quiet=not ranks.is_first) as progress:
            place = ranks.rank
            for batch in in_batches(mine, evaluator.collator(()), evaluator.recipe.evaluation.batch_size):
                evaluator.begin_batch()
                own = slice(place, place + len(batch) * ranks.world_size, ranks.world_size)
                stored_B = np.asarray(evaluator.corpus.labels)[groups.target[own, 0]]
                assert batch.label_B is not None, "the objective's configuration needs it"
                class_N[own], reason_N[own] = batch.label_B, _reasons(batch, torch.from_numpy(stored_B >= 0))
                for column, (class_B, state_BR) in objective.judge(batch).items():
                    chosen[column][own], said[column][own] = class_B.cpu(), state_BR.float().cpu()
                place += len(batch) * ranks.world_size
                progress.advance(len(batch))
    except InputError as error:
        problem = error
    raise_together(problem)

    def everywhere(own: Tensor) -> NDArray[Any]:
        everyones: NDArray[Any] = sum_over_ranks(own.to(evaluator.device)).cpu().numpy()
        return everyones

    left_out_N = everywhere(reason_N)
    kept_N = left_out_N == 0
    return Judged(
        rows=groups.target[kept_N, 0].astype(np.int64),
        class_N=everywhere(class_N)[kept_N],
        chosen={column: everywhere(of_N)[kept_N] for column, of_N in chosen.items()},
        said={column: everywhere(of_NR)[kept_N] for column, of_NR in said.items()},
        left_out={reason: int((left_out_N == 1 + place).sum()) for place, reason in enumerate(REASONS)},
    )


def _reasons(batch: StreamBatch, labelled_B: Tensor) -> Tensor:
    """Return 0 for a row that is judged, else the place of the reason in `REASONS`, counted from 1: (B,) int64."""
    unlabelled_B = torch.where(labelled_B, 0, 3)
    without_image_B = torch.where(batch.image_mask_BI.any(dim=1), unlabelled_B, 2)
    return torch.where(batch.weight_B > 0, without_image_B, 1)


def _predictions(evaluator: Evaluator, held: Judged, scores: Scores) -> list[Prediction]:
    corpus, names = evaluator.corpus, _settings(evaluator).class_names
    keys, story = corpus.story_keys(), corpus.articles["story"]
    scores_NM = np.concatenate([scores[column] for column in COLUMNS], axis=1)
    return [
        Prediction(
            number=number,
            story=keys[int(story[row])],
            source=corpus.languages[language],
            target=corpus.languages[language],
            prediction=names[chosen],
            reference=names[own] if own >= 0 else "",
            language=None,
            scores={name: None if np.isnan(score) else score for name, score in zip(MEASURES, of, strict=True)},
        )
        for number, (row, language, chosen, own, of) in enumerate(
            zip(
                held.rows.tolist(),
                _languages(evaluator, held).tolist(),
                held.chosen["student"].tolist(),
                held.class_N.tolist(),
                scores_NM.tolist(),
                strict=True,
            )
        )
    ]
