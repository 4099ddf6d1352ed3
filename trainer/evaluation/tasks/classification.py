"""Evaluate classification of texts with their images, by language (RC³, Tables 1 and 2: XVNLI, xGQA, MaRVL)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from models.objectives.classification import Classification as Classifier
from shards.arrays import Ints
from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from trainer.checkpoint.directory import read_state
from trainer.distributed import raise_together, sum_over_ranks
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import in_batches, share_of_rank
from trainer.evaluation.report import write_report
from trainer.evaluation.tasks.labels import check_labels
from trainer.evaluation.tasks.zero_shot import trained_targets, zero_shot_means
from trainer.terminal.progress import stage
from trainer.trained import Product

#: Columns of `Counted`: examples with a label, and of these the right ones and those whose label is no class; examples
#: without a label; and those that could not be read.
_COLUMNS = ("examples", "right", "outside", "unlabelled", "unreadable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Counts of the examples.

    by_language: of a text's language, by `_COLUMNS`.  labels: language -> how many examples have each class.
    """

    by_language: Mapping[str, Mapping[str, int]]
    labels: Mapping[str, Sequence[int]]


class Classification:
    """Choose each example's likeliest label by the objective's head, and count how often it is the right one."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def predict(self, evaluator: Evaluator, product: Product, split: str, checkpoint: Path) -> Counted:
        """Classify the examples of the recipe's directions, their target documents. Every rank takes its share."""
        classifier, ranks, corpus = product.objective, evaluator.ranks, evaluator.corpus
        if not isinstance(classifier, Classifier):
            raise InputError(
                f"evaluation.task=classification chooses by the objective's head, which {checkpoint} has not: name the "
                "run or one of its checkpoints"
            )
        classes = classifier.config.class_names
        check_labels(evaluator, classifier.config, split)
        known = np.isin(corpus.label_names, classes)
        mine, collate = share_of_rank(evaluator.choose(split), ranks), evaluator.collator(())
        found: Ints = np.zeros((len(corpus.languages), len(_COLUMNS)), np.int64)
        labels_LC: Ints = np.zeros((len(corpus.languages), len(classes)), np.int64)
        problem: InputError | None = None
        try:
            with torch.inference_mode(), stage("classifying", len(mine.number), quiet=not ranks.is_first) as progress:
                place = 0
                for batch in in_batches(mine, collate, evaluator.recipe.evaluation.batch_size):
                    evaluator.begin_batch()
                    assert batch.label_B is not None  # the objective's configuration needs it
                    chosen_B = classifier.classify(batch).cpu().numpy()
                    label_B, read_B = batch.label_B.numpy(), batch.weight_B.numpy() > 0
                    stored_B = np.asarray(corpus.labels)[mine.target[place : place + len(batch), 0]]
                    is_labelled_B = read_B & (stored_B >= 0)
                    of_each = {
                        "examples": is_labelled_B,
                        "right": is_labelled_B & (chosen_B == label_B),
                        "outside": is_labelled_B & ~known[stored_B],
                        "unlabelled": read_B & (stored_B < 0),
                        "unreadable": ~read_B,
                    }
                    for row, language in enumerate(batch.target_language_B.tolist()):
                        found[language] += [int(of_each[column][row]) for column in _COLUMNS]
                        if is_labelled_B[row] and label_B[row] >= 0:
                            labels_LC[language, label_B[row]] += 1
                    place += len(batch)
                    progress.advance(len(batch))
        except InputError as error:
            problem = error
        raise_together(problem)
        device = evaluator.device
        counts = sum_over_ranks(torch.from_numpy(found).to(device, torch.float64)).long().tolist()
        labels = sum_over_ranks(torch.from_numpy(labels_LC).to(device, torch.float64)).long().tolist()
        return Counted(
            by_language={
                name: dict(zip(_COLUMNS, row, strict=True))
                for name, row in zip(corpus.languages, counts, strict=True)
                if any(row)
            },
            labels=dict(zip(corpus.languages, labels, strict=True)),
        )

    def score(self, evaluator: Evaluator, found: Counted, split: str, checkpoint: Path) -> dict[str, Any]:
        """Write <split>.json, with the part `classification` beside what every report has, and return the report."""
        recipe, corpus = evaluator.recipe, evaluator.corpus
        # Of all languages: the evaluated corpus need not have those of the one that was trained on.
        trained_on = trained_targets(recipe, tuple(LANGUAGE_CODES))
        problems = corpus.manifest["provenance"].get("problems", {})
        report: dict[str, Any] = {
            "split": split,
            "step": read_state(checkpoint).step,
            **evaluator.facts(checkpoint),
            "data": corpus.manifest["name"],
            "examples": sum(of["examples"] for of in found.by_language.values()),
            "unreadable": sum(of["unreadable"] for of in found.by_language.values()),
            "by_kind": {},
            "by_target": {},
            "nll": {},
            "classification": {
                **classification_report(found, trained_on, recipe.objective.settings().class_names),
                "left_out": problems.get("counts", {}),
            },
        }
        write_report(evaluator.where, report)
        return report


def classification_report(found: Counted, trained_on: set[str], classes: Sequence[str]) -> dict[str, Any]:
    """Return the part `classification` of a report. Accuracies are in per cent.

    by_language: counts, `accuracy`, and that of its most frequent label, `majority`; those without an example are left
    out.  means: accuracy and majority over languages, those that were `trained` on and the `zero_shot` others.
    """
    by_language: dict[str, dict[str, Any]] = {}
    for language, counts in found.by_language.items():
        if not counts["examples"]:
            continue
        most, label = max((count, label) for label, count in zip(classes, found.labels[language], strict=True))
        by_language[language] = {
            **counts,
            "accuracy": 100 * counts["right"] / counts["examples"],
            "majority": 100 * most / counts["examples"],
            "majority_label": label,
        }
    return {
        "classes": len(classes),
        **zero_shot_means(by_language, trained_on, ("accuracy", "majority"), lambda shares: sum(shares) / len(shares)),
        "counts": {name: sum(of[name] for of in found.by_language.values()) for name in _COLUMNS},
        "by_language": by_language,
    }
