"""Tell which rows of a micro-batch have an article or images in common. Shape suffixes as in models/ragged.py."""

from collections.abc import Hashable
from typing import Any, Literal

import numpy as np

from shards.arrays import Ints
from shards.batch.types import Batch
from shards.errors import InputError

Side = Literal["source", "target"]
Text = Side | Literal["summary", "source_summary"]


class Distinct:
    """Number things by their first appearance, and keep what stood there."""

    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.first: list[Any] = []

    def number(self, key: Hashable, thing: Any) -> int:
        if key not in self.numbers:
            self.numbers[key] = len(self.first)
            self.first.append(thing)
        return self.numbers[key]


class Rows:
    """Articles, image sequences and tokens of a batch's rows. share False: no two rows share anything."""

    def __init__(self, batch: Batch, share: bool) -> None:
        self.count, self.alone = len(batch), not share
        self.real: list[int] = np.flatnonzero(batch.weight_B > 0).tolist()
        source_language, target_language = batch.source_language_B.tolist(), batch.target_language_B.tolist()
        self._story = batch.story_B.tolist()
        self._language = dict.fromkeys(("source", "source_summary"), source_language)
        self._language |= dict.fromkeys(("target", "summary"), target_language)
        self._ids = {
            "source": (batch.source_ids_BM.numpy(), batch.source_mask_BM.numpy()),
            "target": (batch.target_ids_BM.numpy(), batch.target_mask_BM.numpy()),
            "summary": (batch.summary_ids_BN.numpy(), batch.summary_mask_BN.numpy()),
        }
        self._start = dict.fromkeys(("target", "summary"), batch.start_B.numpy())
        if batch.source_summary_ids_BS is not None and batch.source_summary_mask_BS is not None:
            self._ids["source_summary"] = batch.source_summary_ids_BS.numpy(), batch.source_summary_mask_BS.numpy()
        if batch.source_start_B is not None:
            self._start |= dict.fromkeys(("source", "source_summary"), batch.source_start_B.numpy())
        mask_BI = batch.image_mask_BI.numpy()
        sequences = Distinct()
        self.sequence_B = np.full(len(batch), -1, np.int64)
        for row in np.flatnonzero(mask_BI.any(axis=1)).tolist():
            self.sequence_B[row] = sequences.number(int(batch.images_B[row]) if share else row, row)
        most = mask_BI.shape[1]
        self.shown: list[int] = mask_BI[sequences.first].sum(axis=1).tolist()  # images of each sequence
        shown = [np.flatnonzero(mask_BI[row]) for row in sequences.first] or [np.zeros(1, np.int64)]
        first = sequences.first or [0]
        self.place_X = np.concatenate(shown)
        self.image_X = np.concatenate([row * most + places for row, places in zip(first, shown, strict=True)])
        self.sequence_images = [len(places) for places in shown]
        self.sequence_sizes = [images * batch.roi_BIRV.shape[2] for images in self.sequence_images]

    def identity(self, what: Text, row: int) -> Hashable:
        """Return the key of a row's text: its story, its language and the tokens themselves.

        The tokens, because an article may come in several variants. Where rows share nothing, the row itself.
        """
        return row if self.alone else (self._story[row], self._language[what][row], self.ids(what, row).tobytes())

    def ids(self, what: Text, row: int) -> Ints:
        """Return the real tokens of a row's text. `InputError` for one that the batch does not hold."""
        try:
            ids, mask = self._ids[what]
        except KeyError:
            raise InputError(f"the batch has no {what}: name it in `needs` of the objective's configuration") from None
        # A placeholder that must run needs one token, whatever it is.
        real: Ints = ids[row][mask[row]] if mask[row].any() else ids[row][:1]
        return real

    def start(self, what: Text, row: int) -> int:
        """Return the start token of the language of a row's text."""
        return int(self._start[what][row])
