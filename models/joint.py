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

from models.shapes import VisualForm
from shards.arrays import Ints

#: Tokens that belong to no tokenizer: rows of an embedding of the network's own.
CLS, SEP, BOS, MASK = range(4)
SPECIAL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """One input of the encoder: tokens of a text, the number of an image sequence, or both."""

    ids: Ints | None
    sequence: int = -1  # -1: no images
    hidden: Ints | None = None  # places in the text that [MASK] stands at


@dataclass(frozen=True, kw_only=True, slots=True)
class Joint:
    """Inputs in the encoder's stream, one after another."""

    index_T: Tensor  # int64: what each token is, counted through the W words, the V visual tokens and the special ones
    visual: int  # V
    first_N: Tensor  # int64: where each input begins, at its [CLS] or [BOS]
    hidden_M: Tensor  # int64: tokens that are [MASK]
    masked_M: Tensor  # int64: and what they hide, counted through the words
    visual_S: Tensor  # int64: visual tokens of the inputs of images alone, in order of the sequences


class Visual:
    """Visual tokens of image sequences, counted through the regions of all images, then all patches."""

    def __init__(self, images: Sequence[int], form: VisualForm) -> None:
        """images: of each sequence."""
        self._images, self._form = np.asarray(images, np.int64), form
        self._begin = np.cumsum(self._images) - self._images
        self._all = int(self._images.sum())
        self.count = self._all * (form.regions + form.patches)
        self.tokens = [int(count) * (form.regions + form.patches) for count in images]

    def blocks(self, sequence: int) -> list[Ints]:
        """Return the numbers of a sequence's visual tokens: its regions, its patches, or both."""
        begin, images, form = int(self._begin[sequence]), int(self._images[sequence]), self._form
        blocks = []
        if form.regions:
            blocks.append(np.arange(begin * form.regions, (begin + images) * form.regions))
        if form.patches:
            after = self._all * form.regions
            blocks.append(after + np.arange(begin * form.patches, (begin + images) * form.patches))
        return blocks

    def size(self, text: int | None, sequence: int) -> int:
        """Return the tokens of an input of a text of so many tokens (None: of no text) and a sequence (-1: none)."""
        words = 0 if text is None else text + 1
        if sequence < 0:
            return words
        separators = bool(self._form.regions and self._form.patches) + (text is not None)
        return 1 + self.tokens[sequence] + separators + words


def lay_out(inputs: Sequence[Input], visual: Visual) -> Joint:
    """Return the stream of `inputs`, on the host."""
    words = sum(len(one.ids) for one in inputs if one.ids is not None)
    special = np.arange(words + visual.count, words + visual.count + SPECIAL)
    parts: list[Ints] = []
    first, alone, tokens, word = [], [], 0, 0
    hidden, masked = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]

    def put(part: Ints) -> None:
        nonlocal tokens
        parts.append(part)
        tokens += len(part)

    for one in inputs:
        first.append(tokens)
        if one.sequence >= 0:
            put(special[[CLS]])
            for number, block in enumerate(visual.blocks(one.sequence)):
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
        first_N=torch.tensor(first),
        hidden_M=torch.from_numpy(np.concatenate(hidden)),
        masked_M=torch.from_numpy(np.concatenate(masked)),
        visual_S=torch.from_numpy(np.concatenate(alone) if alone else np.zeros(0, np.int64)),
    )
