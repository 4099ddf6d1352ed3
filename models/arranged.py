"""Lay out what a micro-batch computes: streams of texts, images and summaries, and where each row finds its own.

Made by models/arrangement.py. Shape suffixes as in models/ragged.py; X images, S regions of all images, B rows of the
batch, T tokens of the stream at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from models.joint import Joint
from models.ragged import Layout, averages, averaging
from shards.arrays import Ints

#: Name of the network's own decoder among those that an objective may have.
MAIN = "main"


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """The texts of one `Arrangement.encode` in the encoder's stream."""

    tokens_T: Tensor | None  # int64: their tokens; None where `begin` and `end` say it
    begin: int
    end: int
    pool: Tensor  # (texts, T of these): ones where a token belongs to a text
    text_B: Tensor  # int64: the text of a row; 0 for a row that was not asked for
    first_B: Tensor  # int64: the first token of that text in the stream

    def states(self, texts_TD: Tensor) -> Tensor:
        """Return the states of these texts' tokens, out of those of the stream."""
        return texts_TD[self.begin : self.end] if self.tokens_T is None else texts_TD.index_select(0, self.tokens_T)

    def means(self, texts_TD: Tensor) -> Tensor:
        """Return the mean state (B, D) of each row's text; any for a row that was not asked for."""
        return averages(self.pool, self.states(texts_TD)).index_select(0, self.text_B)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """The summaries of one `Arrangement.decode` in its decoder's stream."""

    begin: int  # their tokens in the stream
    end: int
    text_B: Tensor  # int64: the summary of a row, counted in the stream; -1 for a row that was not asked for
    memory_B: Tensor  # int64: the memory that it reads; -1 likewise
    beside_T: Tensor | None  # int64: the token of the part named by `beside` for each token of this one

    @property
    def tokens(self) -> slice:
        return slice(self.begin, self.end)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderStream:
    """All that one decoder writes, each summary once."""

    ids_T: Tensor  # int64: start token and summary but its last token
    target_T: Tensor  # int64: what each state predicts
    layout: Layout
    cross: Layout  # to the memories
    weight_T: Tensor  # float32: for how many rows a target token stands; 0 for what must run but does not count
    text_T: Tensor  # int64: the summary a token belongs to
    texts: int  # summaries
    parts: dict[str, Decoded]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arranged:
    """Texts, images and summaries to compute, each once, and where the batch's rows find theirs.

    The encoder reads the documents of memories, then the other texts. A *memory* is what a summary is written from: a
    document with the images it is fused with, or, behind all of those, images alone.
    """

    ids_T: Tensor  # int64
    texts: Layout
    encoded: dict[str, Encoded]
    image_X: Tensor  # int64: flat index (row * I + image) of the images to encode
    place_X: Tensor  # int64: number in its sequence
    images: Layout
    pool_images: Tensor  # (sequences, S): ones where a region belongs to a sequence
    sequence_B: Tensor  # int64: the image sequence of a row (0 where it has none: masked elsewhere)
    document_tokens: int  # of `ids_T`, the first ones
    memory_T: Tensor | None  # int64: document tokens of the memories; None: the documents in their order
    fusion: Layout | None  # None: nothing is decoded
    seen_T1: Tensor  # bool: memory tokens of documents with images
    alone_S: Tensor | None  # int64: regions of the memories that are images alone; None: there are none
    decoders: dict[str, DecoderStream]
    real_tokens: int  # of texts and decoded summaries
    computed_tokens: int  # places in the rows that their self-attention computes
    joint: Joint | None = None  # what the encoder's stream is made of, where it reads images too: `fusion` is None

    @property
    def main(self) -> DecoderStream:
        """Return what the network's own decoder writes."""
        return self.decoders[MAIN]

    def to(self, device: torch.device, dtype: torch.dtype) -> "Arranged":
        """Return the same on `device`, masks in the precision `dtype`, without waiting for the device."""
        moved: Arranged = _moved(self, device, dtype)
        return moved


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return `value` on `device`: a tensor, a layout, or what holds some."""
    if isinstance(value, Layout):
        return value.to(device, dtype)
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _moved(part, device, dtype) for name, part in value.items()}
    if is_dataclass(value):
        moved = {field.name: _moved(getattr(value, field.name), device, dtype) for field in fields(value)}
        return replace(cast(Any, value), **moved)
    return value


def same_tokens(stream: DecoderStream, part: str, other: DecoderStream, other_part: str) -> Tensor:
    """Return, for each token of `stream`, that of the same row's summary in another arrangement's: (T,) int64.

    On the host. A summary that no row has, which runs and counts nothing, has the tokens of the first.
    """
    texts = np.zeros(stream.texts, np.int64)
    of_rows = zip(stream.parts[part].text_B.tolist(), other.parts[other_part].text_B.tolist(), strict=True)
    for text, of_other in of_rows:
        if text >= 0:
            texts[text] = of_other
    return torch.from_numpy(ranges(texts, np.bincount(other.text_T.numpy(), minlength=other.texts)))


def encoded(number_B: Ints, sizes: Sequence[int]) -> Encoded:
    """Return where the texts `number_B` (-1 for none) lie in a stream of texts of `sizes`."""
    texts, ends = sorted({number for number in number_B.tolist() if number >= 0}), np.cumsum(sizes)
    together = texts == list(range(texts[0], texts[-1] + 1))
    place = {number: place for place, number in enumerate(texts)}
    begins = ends - np.array(sizes)
    return Encoded(
        tokens_T=None if together else torch.from_numpy(ranges(np.array(texts), np.array(sizes))),
        begin=int(ends[texts[0]] - sizes[texts[0]]),
        end=int(ends[texts[-1]]),
        pool=averaging([sizes[text] for text in texts]),
        text_B=torch.tensor([place.get(number, 0) for number in number_B.tolist()]),
        first_B=torch.from_numpy(begins[np.where(number_B >= 0, number_B, texts[0])]),
    )


def flat(texts: Sequence[Ints]) -> Tensor:
    """Return texts as one stream."""
    return torch.from_numpy(np.concatenate(texts))


def ranges(texts: Ints, sizes: Ints) -> Ints:
    """Return the tokens of `texts` in a stream of texts of `sizes`, one text after another."""
    starts = np.cumsum(sizes) - sizes
    parts = [np.arange(starts[text], starts[text] + sizes[text]) for text in texts]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
