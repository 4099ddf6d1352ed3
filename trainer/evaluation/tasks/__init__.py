"""Tasks that a network is evaluated by, chosen by `evaluation.task`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.tasks.base import Task
from trainer.evaluation.tasks.classification import Classification
from trainer.evaluation.tasks.representation import Representation
from trainer.evaluation.tasks.retrieval import Retrieval
from trainer.evaluation.tasks.summarization import Summarization
from trainer.evaluation.tasks.translation import Translation
from trainer.trained import Product

TASKS: Mapping[str, Task[Any]] = {
    "summarization": Summarization(),
    "translation": Translation(),
    "retrieval": Retrieval(),
    "classification": Classification(),
    "representation": Representation(),
}


def run_task(evaluator: Evaluator, product: Product, split: str, checkpoint: Path) -> dict[str, Any] | None:
    """Evaluate by the recipe's task; return the report on the first rank, None on the others (all ranks call this).

    An evaluation of something else that lies in `evaluator.where` is moved away, not overwritten.
    """
    task = TASKS[evaluator.recipe.evaluation.task]
    product.network.eval()
    found = task.predict(evaluator, product, split, checkpoint)
    return task.score(evaluator, found, split, checkpoint) if evaluator.ranks.is_first else None
