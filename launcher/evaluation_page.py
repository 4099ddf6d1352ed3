"""Write the page of an evaluation beside its predictions and scores. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from launcher.comparison.blocks import blocks
from launcher.examples import choose, read
from launcher.pages.evaluation import Example, evaluation_page
from launcher.pages.scores import CLASS_NAMES
from launcher.pages.sheet import Sheet
from shards.directions import direction_kind
from shards.files.write import write_output
from trainer.evaluation.compare.systems import Scores
from trainer.evaluation.describe import profile_in
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.predictions import Prediction, read_predictions
from trainer.evaluation.report import Evaluated
from trainer.evaluation.resource_classes import resource_class
from trainer.evaluation.scoring.rouge import TYPES


def write_evaluation_page(done: Evaluated) -> Path:
    """Write evaluation/<split>.html beside the predictions and scores that it shows, and return its path."""
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
        read_from: Literal["source", "name"] = "name" if recipe.evaluation.task == "translation" else "source"
        most = recipe.network.vision.max_images
        examples = read(chosen, done.corpus, reader, most, rule=rule, document_of=read_from)
    finally:
        reader.close()
    path = evaluation_folder(done.where) / f"{split}.html"
    write_output(path, build_page(recipe.run.resolve().name, report, rows, examples))
    return path


def build_page(name: str, report: Mapping[str, Any], rows: Sequence[Prediction], examples: Sequence[Example]) -> str:
    """Return the page. name: of the run. rows: all predictions, of which `examples` are some."""
    scored = [row for row in rows if all(row.scores.get(measure) is not None for measure in TYPES)]
    if scored:
        table: Sheet | str = _table_of_the_paper(name, report, scored, len(rows) - len(scored))
    else:
        table = "No example has ROUGE." if rows else "No example could be read."
    languages = {language for row in scored for language in (row.source, row.target)}
    return evaluation_page(name, report, table, len(languages), examples)


def _table_of_the_paper(name: str, report: Mapping[str, Any], rows: Sequence[Prediction], without_rouge: int) -> Sheet:
    """Lay out the scores by source and target as D2TV's Table 1 does."""
    measures = list(TYPES)
    if all(row.scores.get("bertscore") is not None for row in rows):
        measures.append("bertscore")
    scores = Scores(
        names=(name,),
        keys=tuple(row.key for row in rows),
        columns={name: {measure: [row.scores[measure] or 0.0 for row in rows] for measure in measures}},
        left_out=0,
        profile=profile_in(report),
        without_rouge=without_rouge,
    )
    # A single system is tested against nothing: samples and seed mean nothing here.
    return blocks(scores, "", split=str(report["split"]), baseline=name, measures=measures, samples=100, seed=0)
