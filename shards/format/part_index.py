"""Read and check a shard's own part of the index, `<shard>.index.npz`, and the texts in its tar."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError, reason
from shards.files.read import parse_json
from shards.format.index import STORY_KEY
from shards.format.manifest import LONGEST_LABEL, is_label
from shards.format.records import ARTICLE, PIXELS, VARIANTS
from shards.problems import Problems
from shards.text.lines import has_text
from shards.variant_counts import VariantCounts

_KEY = re.compile(STORY_KEY)
_TEXTS = ("url", "text", "summary")


def read_part(part: Path) -> dict[str, NDArray[Any]]:
    """Read a shard's part of the index. Raise `InputError` for one that is damaged or does not fit itself."""
    try:
        saved = load_part(part)
        problem = part_problem(saved)
    except Exception as error:  # zipfile and numpy raise nearly anything for a damaged file
        problem = reason(error)
    if problem is not None:
        raise InputError(f"{part} is damaged ({problem}): delete it and prepare again")
    return saved


def load_part(part: Path) -> dict[str, NDArray[Any]]:
    """Load the arrays of a part without a look at them. Raise nearly anything for a damaged one."""
    if not part.is_file():
        raise OSError("is no regular file")
    with zipfile.ZipFile(part) as archive:
        # They are stored as they are, so arrays larger than their file are a zip bomb.
        if sum(member.file_size for member in archive.infolist()) > part.stat().st_size:
            raise ValueError("it claims to hold more than its own size")
    with np.load(part, allow_pickle=False) as saved:
        return dict(saved)


def part_problem(saved: dict[str, NDArray[Any]]) -> str | None:
    """Return what is wrong with the arrays of a part (types, shapes, ranges), None where they are sound.

    Raise `KeyError` where one is missing.
    """
    articles, edges, keys = saved["articles"], saved["edges"], saved["keys"]
    for name, dtype in (("articles", ARTICLE), ("pixels", PIXELS), ("variants", VARIANTS)):
        if name in saved and (saved[name].dtype, saved[name].ndim) != (dtype, 1):
            return f"its {name} are no table of this format"
    if edges.dtype != np.int32 or edges.ndim != 2 or edges.shape[1] != 2:
        return "its edges are no pairs of rows"
    if keys.dtype.kind != "U" or keys.ndim != 1 or not all(map(_KEY.fullmatch, keys.tolist())):
        return "its keys are no list of percent-encoded keys"
    if len(articles) and int(articles["story"].max()) >= len(keys):
        return f"its articles are of {int(articles['story'].max()) + 1:,} stories, but it has {len(keys):,} keys"
    if len(edges) and (int(edges.min()) < 0 or int(edges.max()) >= len(articles)):
        return f"its edges name articles {int(edges.min()):,} to {int(edges.max()):,} of {len(articles):,}"
    if len(edges) and not np.array_equal(*articles["story"][edges].T):
        return "its edges do not each join two articles of one story"
    variants = saved.get("variants", np.zeros(0, VARIANTS))
    if any(len(variants) and int(variants[name].max()) >= len(articles) for name in ("row", "target")):
        return f"its variants name rows beyond its {len(articles):,} articles"
    labels = saved.get("labels")
    if labels is not None and (
        labels.dtype.kind != "U"
        or labels.shape != articles.shape
        or not all(is_label(label) for label in labels.tolist() if label)
    ):
        return "its labels are no label of each article"
    for name in ("regions", "width", "tar_bytes"):
        if saved[name].dtype.kind not in "iu" or saved[name].ndim or int(saved[name]) < 0:
            return f"its {name} is no number"
    Problems.from_json(str(saved["problems"]))
    if "variant_counts" in saved:
        VariantCounts.from_json(str(saved["variant_counts"]))
    return None


def parse_texts(content: bytes, *, variant: bool = False) -> tuple[list[bytes] | None, str | None]:
    """Return url, text and summary of an article's member in UTF-8, or None; and what is wrong with it, or None.

    It may have a label, too (`label_of`).  variant: it is a variant's, which has a text alone.
    """
    try:
        fields = parse_json(content)
    except ValueError as error:
        return None, f"is not JSON ({error})"
    if not isinstance(fields, dict) or sorted(fields.keys() - {"label"}) != sorted(_TEXTS):
        return None, f"must hold {', '.join(_TEXTS)}, perhaps a label, and nothing else"
    if not all(isinstance(fields[key], str) for key in _TEXTS):
        return None, "holds a value that is no text"
    try:
        pieces = [fields[key].encode() for key in _TEXTS]
    except UnicodeEncodeError:
        return None, "holds text that is not Unicode"
    if variant and (fields["url"] or fields["summary"] or "label" in fields):
        return pieces, "is a variant's and has more than a text"
    if "label" in fields and not (isinstance(fields["label"], str) and is_label(fields["label"])):
        return pieces, f"its label is not one line of at most {LONGEST_LABEL} characters"
    empty = [key for key in (_TEXTS[1:2] if variant else _TEXTS[1:]) if not has_text(fields[key])]
    return pieces, f"its {' and its '.join(empty)} is empty" if empty else None


def label_of(content: bytes) -> str | None:
    """Return the label in an article's member in which `parse_texts` found nothing wrong; None where it has none."""
    label: str | None = parse_json(content).get("label")
    return label
