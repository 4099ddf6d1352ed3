"""Lay out inputs of images and text for an encoder that reads both together (RC³, Zhou et al., 2023, Figure 2).

    images and text   [CLS] visual tokens [SEP] [BOS] text
    a text alone      [BOS] text
    images alone      [CLS] visual tokens

Visual tokens are the regions of all images of a sequence, its patches, or both with a [SEP] between. A text begins with
its language's token where the tokenizer, or who arranges, puts one. The first state of an input represents it.

Shape suffixes as in models/arranged.py; N inputs, M masked tokens, W tokens of all texts, V visual
tokens of all images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.shapes import KINDS, VisualForm
from shards.arrays import Ints

#: Tokens that belong to no tokenizer: rows of an embedding of the network's own.
CLS, SEP, BOS, MASK = range(4)
SPECIAL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """One input of the encoder: tokens of a text, the number of an image sequence, or both."""

    ids: Ints | None
    sequence: int = -1  # -1: no images
    form: VisualForm | None = None  # in which they are read; None without any
    hidden: Ints | None = None  # places in the text that [MASK] stands at


@dataclass(frozen=True, kw_only=True, slots=True)
class Joint:
    """Inputs in the encoder's stream, one after another."""

    index_T: Tensor  # int64: what each token is, counted through the W words, the V visual tokens and the special ones
    visual: int  # V
    region_X: Tensor  # int64: of the images to encode, those that are read as regions; their tokens come first
    patch_X: Tensor  # int64: and those that are read as patches
    hidden_M: Tensor  # int64: tokens that are [MASK]
    masked_M: Tensor  # int64: and what they hide, counted through the words
    visual_S: Tensor  # int64: visual tokens of the inputs of images alone, in order of the sequences


class Visual:
    """Visual tokens of image sequences: the regions of all images that are read so, then the patches likewise."""

    def __init__(self, images: Sequence[int], inputs: Sequence[Input]) -> None:
        """images: of each sequence.  inputs: of the encoder."""
        read = [(one.sequence, one.form) for one in inputs if one.form is not None]
        ends, self._images, self.count = np.cumsum(images), images, 0
        self._begin: dict[tuple[str, int], int] = {}
        self.images: dict[str, Tensor] = {}  # int64: of the images to encode, those read in a kind, as their tokens lie
        for kind in KINDS:
            sequences = {sequence: form.of(kind) for sequence, form in read if form.of(kind)}
            numbers = [np.zeros(0, np.int64)]
            for sequence, tokens in sorted(sequences.items()):
                self._begin[kind, sequence] = self.count
                self.count += images[sequence] * tokens
                numbers.append(np.arange(ends[sequence] - images[sequence], ends[sequence]))
            self.images[kind] = torch.from_numpy(np.concatenate(numbers))

    def blocks(self, sequence: int, form: VisualForm) -> list[Ints]:
        """Return the numbers of the visual tokens of an input: regions, patches, or both."""
        begins = [(self._begin[kind, sequence], form.of(kind)) for kind in KINDS if form.of(kind)]
        return [np.arange(begin, begin + self._images[sequence] * tokens) for begin, tokens in begins]


def size(one: Input, images: Sequence[int]) -> int:
    """Return the tokens of an input. images: of each sequence."""
    words = 0 if one.ids is None else len(one.ids) + 1
    if one.form is None:
        return words
    separators = bool(one.form.regions and one.form.patches) + (one.ids is not None)
    return 1 + images[one.sequence] * one.form.tokens + separators + words


def lay_out(inputs: Sequence[Input], images: Sequence[int]) -> Joint:
    """Return the stream of `inputs`, on the host. images: of each sequence."""
    visual = Visual(images, inputs)
    words = sum(len(one.ids) for one in inputs if one.ids is not None)
    special = np.arange(words + visual.count, words + visual.count + SPECIAL)
    parts: list[Ints] = []
    alone, tokens, word = [], 0, 0
    hidden, masked = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]

    def put(part: Ints) -> None:
        nonlocal tokens
        parts.append(part)
        tokens += len(part)

    for one in inputs:
        if one.form is not None:
            put(special[[CLS]])
            for number, block in enumerate(visual.blocks(one.sequence, one.form)):
                if number:
                    put(special[[SEP]])
                if one.ids is None:
                    alone.append(np.arange(tokens, tokens + len(block)))
                put(words + block)
            if one.ids is not None:
                put(special[[SEP]])
        if one.ids is not None:
            text = np.arange(word, word + len(one.ids))
            put(special[[BOS]])
            if one.hidden is not None:
                hidden.append(tokens + one.hidden)
                masked.append(text[one.hidden])
                text[one.hidden] = special[MASK]
            put(text)
            word += len(one.ids)
    return Joint(
        index_T=torch.from_numpy(np.concatenate(parts)),
        visual=visual.count,
        region_X=visual.images["regions"],
        patch_X=visual.images["patches"],
        hidden_M=torch.from_numpy(np.concatenate(hidden)),
        masked_M=torch.from_numpy(np.concatenate(masked)),
        visual_S=torch.from_numpy(np.concatenate(alone) if alone else np.zeros(0, np.int64)),
    )
