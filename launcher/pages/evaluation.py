"""Show one evaluation: its scores, the paper's table, and examples of what was written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from launcher.pages.alignment import read_alignment
from launcher.pages.regions import canvases, colours
from launcher.pages.scores import LABELS, read_scores
from launcher.pages.sheet import Sheet
from launcher.pages.templates import render
from shards.schema import Images
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.scoring.similarity import SIMILARITY

Place = Literal["best", "middle", "worst", "drawn"]
#: Characters of a document that are shown.
_SHOWN = 1200
#: With more languages the table of the paper is folded.
_OPEN = 8
#: Measures of an example that are shown.
_MEASURES = ("chrf", "bleu", "rouge1", "rouge2", "rougeL", "bertscore", SIMILARITY, "lase")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A prediction to show.

    group: what it is the best, middle or worst of, by ROUGE-L.  name: of its story.  document: the source article's
    text.  images: those that the network saw, with their files where the corpus keeps them; None for none.
    sizes: width and height of each file.  problem: why document or images are missing.
    """

    group: str
    place: Place
    row: Prediction
    name: str
    document: str | None
    images: Images | None
    sizes: tuple[tuple[int, int], ...] = ()
    problem: str | None = None


def evaluation_page(
    name: str, report: Mapping[str, Any], table: Sheet | str, languages: int, examples: Sequence[Example]
) -> str:
    """Return the page of an evaluation.

    name: of the run.  table: scores by source and target, of so many languages, or why there are none.
    """
    split = str(report["split"])
    return render(
        "evaluation.html.jinja",
        title=f"{name}: {split} – d2tv evaluate",
        name=name,
        split=split,
        checkpoint=str(report["checkpoint"])[:16],
        product=report.get("product"),
        scores=read_scores(report, split),
        alignment=read_alignment(report, f"{split}.json"),
        table=table,
        languages=languages,
        open=languages <= _OPEN,
        examples=_with_canvases(examples),
        features_alone=any(one.images is not None and one.images.pixels is None for one in examples),
        shown=_SHOWN,
        measured=_measured,
    )


def _with_canvases(examples: Sequence[Example]) -> list[tuple[Example, list[dict[str, Any]]]]:
    """Draw the images of every example; equal colours of regions mean equal features in all of them."""
    found = [example.images for example in examples if example.images is not None]
    of_images = iter(colours([images.roi_IRV for images in found]) if found else [])
    return [
        (one, [] if one.images is None else canvases(one.images, one.sizes, next(of_images), count=False))
        for one in examples
    ]


def _measured(row: Prediction) -> str:
    values = {LABELS[name]: row.scores.get(name) for name in _MEASURES}
    return ", ".join(f"{label} {value:.1f}" for label, value in values.items() if value is not None)
