"""The page of `d2tv annotate`: summaries to be rated, with nothing in it that says which system wrote one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from launcher.pages.page import data_uri, page
from launcher.pages.templates import render
from launcher.pages.writing import written_in
from shards.schema import Images

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """An example on the page. document: None where it could not be read, which `problem` says.

    reference: None where it is not shown. summaries: letter -> text, in the order in which they stand.
    """

    number: str
    source: str
    target: str
    document_language: str
    document: str | None
    problem: str | None
    reference: str | None
    images: Images | None
    summaries: Mapping[str, str]


def annotation_page(
    page_hash: str, questions: Sequence[Question], criteria: Mapping[str, str], scale: Sequence[int]
) -> str:
    """The whole document, which works offline, and runs its own script alone.

    criteria: name -> what it means, as annotators are told. scale: worst to best.
    """
    body = render(
        "annotation.html.jinja",
        page_hash=page_hash,
        questions=questions,
        criteria=criteria,
        scale=scale,
        total=len(criteria) * sum(len(question.summaries) for question in questions),
        summaries=max(len(question.summaries) for question in questions),
        written_in=lambda language: Markup(written_in(language)),  # attributes, escaped there
        pictures=_pictures,
    )
    return page(
        "Rating summaries",
        body,
        (_FOLDER / "annotation.css").read_text(encoding="utf-8"),
        (_FOLDER / "annotation.js").read_text(encoding="utf-8"),
    )


def _pictures(images: Images | None) -> list[str]:
    """The addresses of the images themselves; of a corpus that keeps features alone there are none to show."""
    return [data_uri(file) for file in images.pixels] if images is not None and images.pixels else []
