"""Write the page of an evaluation beside its predictions and scores. Imports no torch."""

from pathlib import Path

from launcher.examples import choose, read
from launcher.pages.evaluation import evaluation_page
from launcher.pages.page import write_page
from launcher.pages.scores import CLASS_NAMES
from shards.directions import direction_kind
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.predictions import Prediction, read_predictions
from trainer.evaluation.report import Evaluated
from trainer.evaluation.resource_classes import resource_class


def write_evaluation_page(done: Evaluated) -> Path:
    """Write evaluation/<split>.html beside the predictions and scores that it shows; return its path."""
    recipe, report, split = done.recipe, done.report, done.report["split"]
    rows = read_predictions(done.where, split)

    def group_of(row: Prediction) -> str:
        pairs = report["directions"][f"{row.source}>{row.target}"]["train_pairs"]
        kind = direction_kind(row.source, row.target)
        return f"{kind.upper()}, {CLASS_NAMES[resource_class(pairs)]} training pairs"

    reader = recipe.loader.open(done.corpus)
    try:
        chosen = choose(rows, group_of, recipe.evaluation.seed)
        rule = recipe.corpus.image_rule(training=False)
        examples = read(chosen, done.corpus, reader, recipe.network.vision.max_images, rule=rule)
    finally:
        reader.close()
    path = evaluation_folder(done.where) / f"{split}.html"
    write_page(path, evaluation_page(recipe.run.resolve().name, report, rows, examples))
    return path
