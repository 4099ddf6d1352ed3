"""The page of `d2tv evaluate`: the scores of one evaluation, the paper's table, and examples of what was written."""

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.comparison.blocks import as_sheet, blocks
from launcher.comparison.sheet import STYLE as SHEET_STYLE
from launcher.comparison.sheet import as_html
from launcher.examples import Example
from launcher.pages import choice, curves, dots, matrix, regions, run_results, scores
from launcher.pages.page import escape, page
from launcher.pages.writing import written_in
from shards.printable import one_line
from trainer.evaluation.compare.systems import Scores
from trainer.evaluation.describe import profile_in
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.scoring.similarity import SIMILARITY

#: Characters of a document that are shown.
_SHOWN = 1200
#: With more languages the table of the paper is folded.
_OPEN = 8

_STYLE = (
    matrix.STYLE
    + choice.STYLE
    + curves.STYLE
    + dots.STYLE
    + regions.STYLE
    + run_results.STYLE
    + SHEET_STYLE
    + """
nav { display: flex; flex-wrap: wrap; gap: .25rem .9rem; margin: .75rem 0; }
details summary { cursor: pointer; margin: .5rem 0; }
.example { border: 1px solid var(--line); border-radius: 6px; margin: 1rem 0; padding: .5rem 1rem 1rem; }
.example header { display: flex; flex-wrap: wrap; gap: 0 1rem; align-items: baseline; }
.example h4 { margin: 0; } .example .body { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin-top: .5rem; }
.example dl { flex: 1 1 24rem; margin: 0; } .example dt { color: var(--soft); font-size: .85rem; }
.example dd { margin: 0; } .example dd p { margin: 0; white-space: pre-wrap; } .example .written { font-weight: 600; }
.example figure, .example .canvas { width: 130px; height: auto; } .example figcaption .soft { display: none; }
.wrong { color: var(--bad); }
"""
)


def evaluation_page(
    name: str, report: Mapping[str, Any], rows: Sequence[Prediction], examples: Sequence[Example]
) -> str:
    """The whole document. Everything that comes from a corpus or a network is escaped; nothing is loaded.

    name: of the run. rows: all predictions, of which `examples` are some.
    """
    split = str(report["split"])
    sections = {
        "Scores": scores.by_kind(report),
        **({"Baselines": beside} if (beside := scores.beside_baselines(report)) else {}),
        "By source and target": _table_of_the_paper(name, split, rows, profile_in(report)),
        "By direction": scores.by_direction(report, split) or "<p>One direction alone is no picture.</p>",
        "By language": scores.by_language(report),
        "By training pairs": scores.by_class(report),
        "In another language": scores.wrong_language(report),
        "Examples": _examples(examples),
    }
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in sections)
    title = f"{name}: {split}"
    files = f"{split}.json and {split}-predictions.parquet beside this page have every number and every summary."
    body = [
        f"<h1>{escape(title)}</h1>{scores.described(report)}",
        f'<p class="soft">{escape(files)} Checkpoint <code>{escape(str(report["checkpoint"])[:16])}</code>.</p>',
        f"<nav>{links}</nav>",
        *(f'<h2 id="{_anchor(title)}">{title}</h2>\n{html}' for title, html in sections.items()),
    ]
    return page(f"{title} – d2tv evaluate", "\n".join(body), _STYLE)


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _table_of_the_paper(name: str, split: str, rows: Sequence[Prediction], profile: str) -> str:
    if not rows:
        return "<p>No example could be read.</p>"
    measures = ["rouge1", "rouge2", "rougeL"]
    without = len(rows)
    rows = [row for row in rows if all(row.scores.get(measure) is not None for measure in measures)]
    without -= len(rows)
    if not rows:
        return "<p>No example has ROUGE.</p>"
    if all(row.scores.get("bertscore") is not None for row in rows):
        measures.append("bertscore")
    of = Scores(
        names=(name,),
        keys=tuple(row.key for row in rows),
        columns={name: {measure: [row.scores[measure] or 0.0 for row in rows] for measure in measures}},
        left_out=0,
        profile=profile,
        without_rouge=without,
    )
    # A single system is tested against nothing: samples and seed mean nothing here.
    sheet = as_sheet(blocks(of, split=split, baseline=name, measures=measures, samples=100, seed=0), "")
    html = f'<p class="soft">{escape(sheet.note)}.</p>{as_html(sheet)}'
    languages = {language for row in rows for language in (row.source, row.target)}
    if len(languages) <= _OPEN:
        return html
    return f"<details><summary>The table of {len(languages)} languages, as in the paper</summary>{html}</details>"


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return "<p>None.</p>"
    with_images = [example.images for example in examples if example.images is not None]
    drawn = iter(regions.colours([images.roi_IRV for images in with_images]) if with_images else [])
    told = ""
    if with_images and with_images[0].pixels is None:
        told = (
            " The corpus keeps features of images, no pixels: each box is where a region lies, its colour the first "
            "three principal components of its features."
        )
    parts = [
        '<p class="soft">Of each group the best, the middle and the worst by ROUGE-L, of different stories, and one '
        f"drawn at random.{told}</p>"
    ]
    group = None
    for example in examples:
        if example.group != group:
            group = example.group
            parts.append(f"<h3>{escape(group)}</h3>")
        parts.append(_example(example, next(drawn) if example.images is not None else []))
    return "\n".join(parts)


def _example(example: Example, colours: Sequence[list[str]]) -> str:
    row = example.row
    measured = [
        f"{label} {value:.1f}"
        for measure, label in scores.LABELS.items()
        if measure in ("rouge1", "rouge2", "rougeL", "bertscore", "lase", SIMILARITY)
        and (value := row.scores.get(measure)) is not None
    ]
    found = f"found to be {row.language}" if row.language else "its language cannot be told"
    look = "wrong" if row.scores.get("wrong_language") else "soft"
    document = example.document or ""
    shown = f"<p {written_in(row.source)}>{escape(document[:_SHOWN])}{'…' if len(document) > _SHOWN else ''}</p>"
    if len(document) > _SHOWN:
        shown += f'<p class="soft">{len(document):,} characters in all</p>'
    if example.problem:
        shown += f'<p class="wrong">{escape(example.problem)}</p>'
    texts = [
        (f"document, {escape(row.source)}", shown),
        (f"reference, {escape(row.target)}", f"<p {written_in(row.target)}>{escape(row.reference)}</p>"),
        (
            f'written; <span class="{look}">{escape(found)}</span>',
            f'<p class="written" {written_in(row.language)}>{escape(row.prediction) or "<i>nothing</i>"}</p>',
        ),
    ]
    listed = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in texts)
    return (
        f'<article class="example"><header><h4>{example.place}: {escape(row.source)} → {escape(row.target)}</h4>'
        f'<span class="soft">{escape(", ".join(measured))}</span><span class="soft">story <bdi dir="auto">'
        f'{escape(one_line(example.name))}</bdi></span></header><div class="body">{_images(example, colours)}'
        f"<dl>{listed}</dl></div></article>"
    )


def _images(example: Example, colours: Sequence[list[str]]) -> str:
    images = example.images
    if images is None:
        return ""
    pictures: list[regions.Picture | None] = [None] * len(images.roi_IRV)
    if images.pixels:
        files = zip(images.pixels, example.sizes, strict=True)
        pictures = [regions.Picture(file=file, size=size) for file, size in files]
    figures = [
        regions.canvas(images.roi_IRV[place], images.boxes_IR4[place], colours[place], f"image {place + 1}", picture)
        for place, picture in enumerate(pictures)
    ]
    return f'<div class="images">{"".join(figures)}</div>'
