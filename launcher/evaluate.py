"""`d2tv evaluate`: decode and score, then a page that shows what came of it."""

from collections.abc import Sequence
from pathlib import Path

from launcher.robustness import show_robustness
from shards.errors import InputError
from trainer.evaluation.robustness.plan import Wanted
from trainer.evaluation.standalone import Evaluated
from trainer.evaluation.standalone import evaluate as decode_and_score


def evaluate(
    where: Path,
    split: str,
    overrides: Sequence[str],
    directions: str | None = None,
    wanted: Wanted | None = None,
) -> None:
    """Decode and score `split` of what was trained; write its predictions, scores and page into evaluation/.

    directions: the same as the override evaluation.directions=. wanted: perturbations, whose scores have a page of
    their own. Raises `InputError`.
    """

    def show(done: Evaluated) -> None:
        print(f"page: {write_evaluation_page(done)}")

    done = decode_and_score(where, split, with_directions(overrides, directions), wanted, show)
    if done.robustness is not None:
        show_robustness(done.where, done.robustness)


def with_directions(overrides: Sequence[str], directions: str | None) -> list[str]:
    """The overrides with `directions` among them. `InputError` where they name others."""
    if directions is None:
        return list(overrides)
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "evaluation.directions" and value != directions:
            raise InputError(f"--directions {directions} and {override}: give one of them")
    return [*overrides, f"evaluation.directions={directions}"]


def write_evaluation_page(done: Evaluated) -> Path:
    """evaluation/<split>.html beside the predictions and scores that it shows."""
    from launcher.examples import choose, read
    from launcher.pages.evaluation import evaluation_page
    from launcher.pages.page import write_page
    from launcher.pages.scores import CLASS_NAMES
    from trainer.evaluation.kept import evaluation_folder
    from trainer.evaluation.predictions import Prediction, read_predictions
    from trainer.evaluation.resource_classes import resource_class
    from trainer.stream import build_reader

    recipe, report, split = done.recipe, done.report, done.report["split"]
    rows = read_predictions(done.where, split)

    def group_of(row: Prediction) -> str:
        pairs = report["directions"][f"{row.source}>{row.target}"]["train_pairs"]
        kind = "MMS" if row.source == row.target else "MXLS"
        return f"{kind}, {CLASS_NAMES[resource_class(pairs)]} training pairs"

    reader = build_reader(recipe, done.corpus)
    try:
        chosen = choose(rows, group_of, recipe.evaluation.seed)
        rule = recipe.corpus.image_rule(training=False)
        examples = read(chosen, done.corpus, reader, recipe.network.vision.max_images, rule)
    finally:
        reader.close()
    path = evaluation_folder(done.where) / f"{split}.html"
    write_page(path, evaluation_page(recipe.run.resolve().name, report, rows, examples))
    return path
