"""Show summaries to be rated without a trace of which system wrote one: the page of `d2tv annotate`."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from launcher.pages.templates import FOLDER, render
from shards.schema import Images


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
    """Return the page, which works offline and runs its own script alone.

    criteria: name -> what annotators are told that it means. scale: worst to best.
    """
    script = (FOLDER / "annotation.js").read_text(encoding="utf-8")
    return render(
        "annotation.html.jinja",
        title="Rating summaries",
        page_hash=page_hash,
        questions=questions,
        criteria=criteria,
        scale=scale,
        total=len(criteria) * sum(len(question.summaries) for question in questions),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
