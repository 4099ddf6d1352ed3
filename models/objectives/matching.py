"""Score whether an image and a name belong together, from the encoder's state at [CLS] (RC³, Eq. 3).

Shape suffixes as in models/ragged.py; P pairs.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.losses import widen
from models.objectives.base import Objective
from shards.batch.types import Batch


class Matcher(Objective):
    """Base of objectives around a network of early fusion, with a linear head on that state."""

    match: nn.Linear

    def pair_scores(self, batch: Batch, names: Sequence[int], images: Sequence[int]) -> Tensor:
        """Return the scores (P,) float32 of these rows' names, each with the images of the row beside it.

        names: rows, none twice.  Call it in eval mode. `batch` is on the host.
        """
        shown = torch.zeros(len(batch), 1, dtype=torch.bool)
        shown[list(images)] = True
        # Other rows' images are not embedded.
        batch = replace(batch, image_mask_BI=batch.image_mask_BI & shown)
        arrangement = self.network.arrangement(batch, tagged=True)
        arrangement.encode("pair", "summary", names, images=images)
        arranged = self.network.place(arrangement.arranged())
        states_TD = self.network.read(batch, arranged).texts_TD
        first_P = arranged.encoded["pair"].first_B[list(names)]
        return widen(self.match(states_TD.index_select(0, first_P))[:, 0])
