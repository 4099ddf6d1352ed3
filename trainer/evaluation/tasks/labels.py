"""Check that the examples that a task classifies have labels which the objective knows."""

from models.objectives.labelled_config import LabelledConfig
from shards.errors import InputError
from shards.format.labels import label_counts
from trainer.evaluation.evaluate import Evaluator


def check_labels(evaluator: Evaluator, config: LabelledConfig, split: str) -> None:
    """Raise `InputError` where the examples of `split` have no label, or some that `config` refuses."""
    corpus, task = evaluator.corpus, evaluator.recipe.evaluation.task
    where = f"{split} of the corpus {corpus.manifest['name']}"
    held = [name for name, count in zip(corpus.label_names, label_counts(corpus, split), strict=True) if count]
    if not held:
        raise InputError(f"evaluation.task={task} wants labels, but {where} has none: set corpus.path to one that has")
    config.check_held_out(held, where)
