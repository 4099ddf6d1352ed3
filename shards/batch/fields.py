"""List the fields that a batch has only where an objective asks for them (`needs` of its configuration).

A further one is an entry of `FIELDS`, what that reads of `Examples`, and its attributes in `Batch`
(shards/batch/types.py); an article without a summary, a placeholder's, has the end token alone. Imports no torch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shards.errors import InputError, did_you_mean
from shards.schema import Article

if TYPE_CHECKING:
    from torch import Tensor

#: Width and height that pictures are resized to: RC3 (Zhou et al. 2023), section 3.2.
PICTURE_SIDE = 224


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Examples that fields are made of, one a row, and what makes tensors of them.

    summaries: articles -> ids and mask of their summaries.  starts: articles -> start tokens of their languages.
    classes: articles -> numbers of their labels, -1 for none.
    pixels_BIHWC: pictures of the rows' images, None where none were read.
    """

    source: Sequence[Article]
    target: Sequence[Article]
    summaries: "Callable[[Sequence[Article]], tuple[Tensor, Tensor]]"
    starts: "Callable[[Sequence[Article]], Tensor]"
    classes: "Callable[[Sequence[Article]], Tensor]"
    pixels_BIHWC: "Tensor | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field: its attributes in `Batch`, and the function that returns a value for each, in their order.

    picture_side: width and height of the pictures that it wants read; 0 for none.
    """

    attributes: tuple[str, ...]
    make: "Callable[[Examples], tuple[Tensor, ...]]"
    picture_side: int = 0


def _source_summary(examples: Examples) -> "tuple[Tensor, ...]":
    return (*examples.summaries(examples.source), examples.starts(examples.source))


def _pixels(examples: Examples) -> "tuple[Tensor, ...]":
    if examples.pixels_BIHWC is None:
        raise InputError("needs: no pictures were read for `pixels`: give the Fetcher's ImageSizes a picture_side")
    return (examples.pixels_BIHWC,)


def _label(examples: Examples) -> "tuple[Tensor, ...]":
    return (examples.classes(examples.target),)


FIELDS: Mapping[str, Field] = {
    "source_summary": Field(
        attributes=("source_summary_ids_BS", "source_summary_mask_BS", "source_start_B"), make=_source_summary
    ),
    "label": Field(attributes=("label_B",), make=_label),
    "pixels": Field(attributes=("pixels_BIHWC",), make=_pixels, picture_side=PICTURE_SIDE),
}


def needed_fields(names: Iterable[str]) -> tuple[Field, ...]:
    """Return the fields of these names. `InputError`, with those there are, for an unknown one."""
    wanted = sorted(names)
    for name in wanted:
        if name not in FIELDS:
            raise InputError(f"needs: no batch field {name!r}{did_you_mean(name, FIELDS)}; known: {', '.join(FIELDS)}")
    return tuple(FIELDS[name] for name in wanted)


def picture_side(names: Iterable[str]) -> int:
    """Return the width and height of the pictures that the fields of these names want read; 0 for none."""
    return max((field.picture_side for field in needed_fields(names)), default=0)
