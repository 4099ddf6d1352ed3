"""Evaluate representations of student and teacher by the class they lead to (AMID, Tables 1, 2 and 4).

Accuracy is the shared classifier's. R@k says for how many held-out examples one of the k nearest training examples of
the same language, by the same model, has their class. Both are of examples with images, which the teacher needs, so
that the columns compare.

Shape suffixes as in trainer/evaluation/scoring/neighbours.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from trainer.evaluation.heldout import choose_examples, in_batches, share_of_rank, take_groups
from trainer.evaluation.predictions import Prediction, write_predictions
from trainer.evaluation.report import write_report
from trainer.evaluation.scoring.neighbours import FIGURES, MEASURES, found_among_neighbours
from trainer.evaluation.tasks.zero_shot import mean_figures, trained_targets, zero_shot_means
from trainer.terminal.progress import stage
from trainer.trained import Product

#: Why an example is left out.
REASONS = ("unreadable", "without_image", "unlabelled")


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Hold what was said of examples that were not left out, in their order.

    class_N: their own.  chosen: column -> likeliest class (N,).  said: column -> representation (N, R) float32.
    left_out: reason -> examples.
    """

    examples: Groups
    class_N: Ints
    chosen: Mapping[str, Ints]
    said: Mapping[str, NDArray[np.float32]]
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Hold the held-out examples, which of them found their class, and the size of the gallery by language.

    right: column -> (N, 3) bool of `FIGURES`.
    """

    judged: Judged
    right: Mapping[str, NDArray[np.bool_]]
    gallery: Mapping[str, int]


class Representation:
    """Judge held-out and training examples by the objective's models, and compare them on the first rank."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def predict(self, evaluator: Evaluator, product: Product, split: str, checkpoint: Path) -> Found:
        """Return what the models find, of the recipe's directions within a language. Every rank takes its share."""
        objective = product.objective
        if not isinstance(objective, Amid):
            raise InputError(
                f"evaluation.task=representation judges by the objective's classifier, which {checkpoint} has not: "
                "name the run or one of its checkpoints"
            )
        objective.to(evaluator.device)  # the classifier, too
        corpus, within = evaluator.corpus, [pair for pair in evaluator.directions() if pair[0] == pair[1]]
        total = evaluator.recipe.evaluation.examples_per_kind
        wanted = choose_examples(corpus, split, within, total=total)
        gallery = choose_examples(corpus, "train", within, total=None)
        if not (len(wanted.number) and len(gallery.number)):
            raise InputError(
                f"evaluation.task=representation compares examples within a language, and evaluation.directions="
                f"{evaluator.recipe.evaluation.directions} leaves none: set it to mms, or to pairs like en-en,de-de"
            )
        held, trained = (
            _judge(evaluator, objective, groups, what)
            for groups, what in ((wanted, "judging examples"), (gallery, "judging the gallery"))
        )
        language_N, language_M = (_languages(evaluator, of) for of in (held, trained))
        right = {column: np.zeros((len(held.class_N), len(FIGURES)), np.bool_) for column in COLUMNS}
        for column, right_NF in right.items():
            right_NF[:, 0] = held.chosen[column] == held.class_N
            for language in np.unique(language_N):
                mine, theirs = language_N == language, language_M == language
                right_NF[mine, 1:] = found_among_neighbours(
                    held.said[column][mine], held.class_N[mine], trained.said[column][theirs], trained.class_N[theirs]
                )
        sizes = np.bincount(language_M, minlength=len(corpus.languages)).tolist()
        return Found(judged=held, right=right, gallery=dict(zip(corpus.languages, sizes, strict=True)))

    def score(self, evaluator: Evaluator, found: Found, split: str, checkpoint: Path) -> dict[str, Any]:
        """Write <split>.json, with the part `representation` beside what every report has, and return the report.

        A row of <split>-predictions.parquet is an example: the student's class, its own, and `MEASURES`.
        """
        left_out = dict(found.judged.left_out)
        corpus, settings = evaluator.corpus, _settings(evaluator)
        trained_on = trained_targets(evaluator.recipe, corpus.languages)
        language_N = _languages(evaluator, found.judged)
        report: dict[str, Any] = {
            "split": split,
            "step": read_state(checkpoint).step,
            **evaluator.facts(checkpoint),
            "data": corpus.manifest["name"],
            "examples": len(found.judged.class_N),
            "unreadable": left_out.pop("unreadable"),
            "by_kind": {},
            "by_target": {},
            "nll": {},
            "representation": {
                **representation_report(language_N, corpus.languages, found, trained_on),
                "classes": len(settings.class_names),
                "target": settings.target,
                "left_out": left_out,
            },
        }
        write_report(
            evaluator.where,
            report,
            lambda: write_predictions(
                evaluator.where, split, _predictions(evaluator, found), MEASURES, evaluator.facts(checkpoint)
            ),
        )
        return report


def representation_report(
    language_N: Ints, languages: Sequence[str], found: Found, trained_on: set[str]
) -> dict[str, Any]:
    """Return the part `representation` of a report. All figures are in per cent.

    by_language: `examples`, the size of the `gallery`, and `FIGURES` by column.  means: the same over languages, those
    that were `trained` on and the `zero_shot` others.
    """
    by_language: dict[str, dict[str, Any]] = {}
    for language in np.unique(language_N).tolist():
        mine = language_N == language
        by_language[languages[language]] = {
            "examples": int(mine.sum()),
            "gallery": found.gallery[languages[language]],
            **{
                column: dict(zip(FIGURES, (100 * right_NF[mine].mean(axis=0)).tolist(), strict=True))
                for column, right_NF in found.right.items()
            },
        }
    return {**zero_shot_means(by_language, trained_on, COLUMNS, mean_figures), "by_language": by_language}


def _settings(evaluator: Evaluator) -> AmidConfig:
    settings = evaluator.recipe.objective.settings()
    assert isinstance(settings, AmidConfig), "the objective says which tasks suit it"
    return settings


def _languages(evaluator: Evaluator, judged: Judged) -> Ints:
    """Return the language of each example, as the corpus numbers them."""
    return evaluator.corpus.articles["language"][judged.examples.target[:, 0]].astype(np.int64)


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
                class_N[own], reason_N[own] = objective.classes(batch), _reasons(batch)
                for column, (class_B, state_BR) in objective.judge(batch).items():
                    chosen[column][own], said[column][own] = class_B.cpu(), state_BR.float().cpu()
                place += len(batch) * ranks.world_size
                progress.advance(len(batch))
    except InputError as error:
        problem = error
    raise_together(problem)

    def everywhere(own: Tensor) -> NDArray[Any]:
        everyones: NDArray[Any] = sum_over_ranks(own.to(evaluator.device, torch.float64)).cpu().to(own.dtype).numpy()
        return everyones

    left_out_N = everywhere(reason_N)
    kept_N = left_out_N == 0
    return Judged(
        examples=take_groups(groups, np.flatnonzero(kept_N)),
        class_N=everywhere(class_N)[kept_N],
        chosen={column: everywhere(of_N)[kept_N] for column, of_N in chosen.items()},
        said={column: everywhere(of_NR)[kept_N] for column, of_NR in said.items()},
        left_out={reason: int((left_out_N == 1 + place).sum()) for place, reason in enumerate(REASONS)},
    )


def _reasons(batch: StreamBatch) -> Tensor:
    """Return 0 for a row that is judged, else the place of the reason in `REASONS`, counted from 1: (B,) int64."""
    assert batch.label_B is not None, "the objective's configuration needs it"
    unlabelled_B = torch.where(batch.label_B < 0, 3, 0)
    without_image_B = torch.where(batch.image_mask_BI.any(dim=1), unlabelled_B, 2)
    return torch.where(batch.weight_B > 0, without_image_B, 1)


def _predictions(evaluator: Evaluator, found: Found) -> list[Prediction]:
    corpus, names = evaluator.corpus, _settings(evaluator).class_names
    keys, story, judged = corpus.story_keys(), corpus.articles["story"], found.judged
    scores_NM = 100.0 * np.concatenate([found.right[column] for column in COLUMNS], axis=1)
    return [
        Prediction(
            number=number,
            story=keys[int(story[row])],
            source=corpus.languages[language],
            target=corpus.languages[language],
            prediction=names[chosen],
            reference=names[own],
            language=None,
            scores=dict(zip(MEASURES, scores, strict=True)),
        )
        for number, (row, language, chosen, own, scores) in enumerate(
            zip(
                judged.examples.target[:, 0].tolist(),
                _languages(evaluator, judged).tolist(),
                judged.chosen["student"].tolist(),
                judged.class_N.tolist(),
                scores_NM.tolist(),
                strict=True,
            )
        )
    ]
