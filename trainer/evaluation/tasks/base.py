"""Define what an evaluation runs: a task predicts on all ranks, and the first one scores."""

from pathlib import Path
from typing import Any, Protocol, TypeVar

from trainer.evaluation.evaluate import Evaluator
from trainer.trained import Product

Found = TypeVar("Found")


class Task(Protocol[Found]):
    """An evaluation of `evaluation.task`. Objectives name those that suit them (`ObjectiveConfig.tasks`).

    needs: fields of `Batch` that it reads beside the objective's (shards/batch/fields.py).
    """

    @property
    def needs(self) -> frozenset[str]: ...

    def predict(self, evaluator: Evaluator, product: Product, split: str, checkpoint: Path) -> Found:
        """Return what the network, in eval mode, predicts of held-out examples; unreadable ones are counted.

        All ranks call this together and share the work; all raise (`InputError`) where one fails. The result is the
        same on any number of ranks. checkpoint: of the weights.
        """

    def score(self, evaluator: Evaluator, found: Found, split: str, checkpoint: Path) -> dict[str, Any]:
        """Score, write <split>.json and what belongs beside it into the evaluation's directory, and return the report.

        The first rank alone calls this.
        """
