"""Evaluate retrieval of images by names and of names by images, within each language (RC³, Table 2: ITR).

The candidates of a language are held-out stories with an image, the same for every run; languages share stories where
they can. Every name is scored with every image: one encoder call scores the names of a batch with one image.

Shape suffixes: N candidates of a language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.objectives.matching import Matcher
from shards.arrays import Ints
from shards.batch.types import Batch
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from trainer.checkpoint.directory import read_state
from trainer.distributed import raise_together, sum_over_ranks
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.predictions import Prediction, write_predictions
from trainer.evaluation.report import write_report
from trainer.evaluation.scoring.recall import MEASURES, chance, recalls, scores_by_story
from trainer.evaluation.tasks.zero_shot import mean_figures, trained_targets, zero_shot_means
from trainer.terminal.progress import stage
from trainer.trained import Product

#: Why a candidate is left out.
REASONS = ("unreadable", "without_image", "same_name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """Scores of the names of a language, a row an image.

    rows: the candidates' articles in the index.  left_out: reason -> candidates that are not among them.
    """

    score_NN: Tensor
    rows: Sequence[int]
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Share:
    """Hold what one rank has scored of a language.  kept_N: ones of the rows that are candidates."""

    score_NN: Tensor
    kept_N: Tensor
    left_out: Mapping[str, int]


class Retrieval:
    """Score names with images by the objective's head, and count how often each finds its own."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def predict(self, evaluator: Evaluator, product: Product, split: str, checkpoint: Path) -> dict[str, Scored]:
        """Return the scores by language. Every rank takes its share of the images."""
        matcher, ranks = product.objective, evaluator.ranks
        if not isinstance(matcher, Matcher):
            raise InputError(
                f"evaluation.task=retrieval scores by the objective's head, which {checkpoint} has not: name the run "
                "or one of its checkpoints"
            )
        matcher.to(evaluator.device)  # the head, too
        groups, collate = choose_candidates(evaluator, split), evaluator.collator(())
        found: dict[str, _Share] = {}
        problem: InputError | None = None
        try:
            with stage("scoring names with images", len(groups), quiet=not ranks.is_first) as progress:
                for language, chosen in groups.items():
                    evaluator.begin_batch()
                    found[language] = _score_share(evaluator, matcher, collate(chosen))
                    progress.advance(1)
        except InputError as error:
            problem = error
        raise_together(problem)
        # An image is on one rank and zeros are on the others. What one of them could not read is left out on all.
        return {
            language: _scored(
                sum_over_ranks(of.score_NN).cpu(),
                sum_over_ranks(of.kept_N).cpu() == ranks.world_size,
                groups[language].target[:, 0],
                of.left_out,
            )
            for language, of in found.items()
        }

    def score(self, evaluator: Evaluator, found: Mapping[str, Scored], split: str, checkpoint: Path) -> dict[str, Any]:
        """Write <split>.json, with the part `retrieval` beside what every report has, and return the report.

        A row of <split>-predictions.parquet is a story: the name that its image finds first, and `MEASURES`.
        """
        trained_on = trained_targets(evaluator.recipe, evaluator.corpus.languages)
        left_out = {reason: sum(of.left_out[reason] for of in found.values()) for reason in REASONS}
        report: dict[str, Any] = {
            "split": split,
            "step": read_state(checkpoint).step,
            **evaluator.facts(checkpoint),
            "examples": sum(len(of.score_NN) for of in found.values()),
            "unreadable": left_out.pop("unreadable"),
            "by_kind": {},
            "by_target": {},
            "nll": {},
            "retrieval": {**retrieval_report(found, trained_on), "left_out": left_out},
        }
        write_report(
            evaluator.where,
            report,
            lambda: write_predictions(
                evaluator.where, split, _predictions(evaluator, found), MEASURES, evaluator.facts(checkpoint)
            ),
        )
        return report


def choose_candidates(evaluator: Evaluator, split: str) -> dict[str, Groups]:
    """Return the candidates of each language, as monolingual examples of one story each; those that are evaluated.

    The choice depends on the corpus alone. `InputError` where no language has two.
    """
    corpus, settings = evaluator.corpus, evaluator.recipe.evaluation
    languages = [source for source, target in evaluator.directions() if source == target]
    found = {corpus.languages[language]: _candidates(corpus, split, language) for language in languages}
    found = {language: pairs[: settings.candidates] for language, pairs in found.items() if len(pairs) > 1}
    if not found:
        raise InputError(
            f"evaluation.task=retrieval compares stories within a language, and evaluation.directions="
            f"{settings.directions} leaves no two of {split}: set it to mms, or to pairs like en-en,de-de"
        )
    return {
        language: Groups(
            number=np.arange(len(rows)),
            source=rows[:, None],
            target=rows[:, None],
            story=corpus.articles["story"][rows[:, None]].astype(np.int64),
        )
        for language, rows in found.items()
    }


def _candidates(corpus: Corpus, split: str, language: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the articles of a language's monolingual examples, in an order of their stories that languages share."""
    story_of, starts = corpus.articles["story"].astype(np.int64), corpus.directions[split]
    turn = np.random.default_rng(0).permutation(story_of.max(initial=-1) + 1)
    number = language * len(corpus.languages) + language
    rows = np.unique(corpus.edges[split][starts[number] : starts[number + 1], 1].astype(np.int64))
    return rows[np.argsort(turn[story_of[rows]], kind="stable")]


@torch.no_grad()
def _score_share(evaluator: Evaluator, matcher: Matcher, batch: Batch) -> _Share:
    """Score all names with this rank's images."""
    ranks, size = evaluator.ranks, evaluator.recipe.evaluation.batch_size
    kept, left_out = _kept(batch)
    score_NN = torch.zeros(len(batch), len(batch), device=evaluator.device)
    kept_N = torch.zeros(len(batch), device=evaluator.device)
    kept_N[kept] = 1.0
    # By the row, which is the same on all ranks whatever else each of them keeps.
    for image in (row for row in kept if row % ranks.world_size == ranks.rank):
        evaluator.begin_batch()
        for begin in range(0, len(kept), size):
            names = kept[begin : begin + size]
            score_NN[image, names] = matcher.pair_scores(batch, names, [image] * len(names))
    return _Share(score_NN=score_NN, kept_N=kept_N, left_out=left_out)


def _kept(batch: Batch) -> tuple[list[int], dict[str, int]]:
    """Return the rows that are candidates, and the number of others by reason. Of equal names the first is one."""
    kept: list[int] = []
    left_out, names = dict.fromkeys(REASONS, 0), set()
    for row in range(len(batch)):
        name = tuple(batch.summary_ids_BN[row][batch.summary_mask_BN[row]].tolist())
        if not batch.weight_B[row]:
            left_out["unreadable"] += 1
        elif not batch.image_mask_BI[row].any():
            left_out["without_image"] += 1
        elif name in names:
            left_out["same_name"] += 1
        else:
            names.add(name)
            kept.append(row)
    return kept, left_out


def _scored(score_NN: Tensor, kept_N: Tensor, rows: Ints, left_out: Mapping[str, int]) -> Scored:
    elsewhere = len(kept_N) - int(kept_N.sum()) - sum(left_out.values())
    return Scored(
        score_NN=score_NN[kept_N][:, kept_N],
        rows=rows[kept_N.numpy()].tolist(),
        left_out={**left_out, "unreadable": left_out["unreadable"] + elsewhere},
    )


def _predictions(evaluator: Evaluator, found: Mapping[str, Scored]) -> list[Prediction]:
    corpus, reader = evaluator.corpus, evaluator.reader
    keys, story = corpus.story_keys(), corpus.articles["story"]
    predictions: list[Prediction] = []
    for language, of in found.items():
        scores, names = of.score_NN.numpy(), [reader.article(row).summary for row in of.rows]
        for row, own, first, measured in zip(
            of.rows, names, scores.argmax(axis=1), scores_by_story(scores), strict=True
        ):
            predictions.append(
                Prediction(
                    number=len(predictions),
                    story=keys[int(story[row])],
                    source=language,
                    target=language,
                    prediction=names[first],
                    reference=own,
                    language=language,
                    scores=measured,
                )
            )
    return predictions


def retrieval_report(found: Mapping[str, Scored], trained_on: set[str]) -> dict[str, Any]:
    """Return the part `retrieval` of a report. All figures are in per cent.

    by_language: candidates, recall@k `image_to_text` and `text_to_image`, their `mean`, and what `chance` gives; those
    with less than two candidates are left out.  means: the same over languages, those that were `trained` on and the
    `zero_shot` others.
    """
    by_language: dict[str, dict[str, Any]] = {}
    for language, of in found.items():
        if (size := len(of.score_NN)) < 2:
            continue
        scores = of.score_NN.numpy()
        both = {"image_to_text": recalls(scores), "text_to_image": recalls(scores.T)}
        mean = mean_figures(list(both.values()))
        by_language[language] = {"candidates": size, **both, "mean": mean, "chance": chance(size)}
    figures = ("image_to_text", "text_to_image", "mean", "chance")
    return {**zero_shot_means(by_language, trained_on, figures, mean_figures), "by_language": by_language}
