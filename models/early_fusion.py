"""The network of RC³ (Zhou et al., 2023, section 2.2): one encoder that reads images and text together.

A memory is the states of a document and of the visual tokens before it, all of which the decoder attends to; images
without a document are an input of their own (models/joint.py).
Shape suffixes as in models/arranged.py; W tokens of all texts, K visual tokens of all images.
"""

import torch
from torch import Tensor, nn

from models.arranged import Arranged
from models.config import NetworkConfig
from models.joint import SPECIAL, Joint
from models.network import Encoded, Network
from models.patches import PatchEmbedding
from models.vision import RegionEmbedding, images
from shards.batch.types import Batch
from shards.errors import InputError


class EarlyNetwork(Network):
    """p(y_t | X, V, y_<t) where the encoder reads V before X. Other arguments as of `Network`."""

    def _add_vision(self) -> None:
        vision, width = self.config.vision, self.hidden_size
        self.visual_size, self.fusion = width, None
        self.vision = RegionEmbedding(vision, width) if vision.reads("regions") else None
        self.patches = PatchEmbedding(width, vision.max_images) if vision.reads("patches") else None
        self.special = nn.Embedding(SPECIAL, width)
        nn.init.normal_(self.special.weight, std=0.02)

    def encode(self, arranged: Arranged) -> Tensor:
        """Return the states (T, D) of inputs that are texts alone."""
        joint = arranged.joint
        assert joint is not None
        return self._encode(arranged, self.special.weight.new_zeros(joint.visual, self.hidden_size))

    def read(self, batch: Batch, arranged: Arranged) -> Encoded:
        """Return the states of all inputs in one encoder call, and where images and memories are among them."""
        joint = arranged.joint
        assert joint is not None
        states_TD = self._encode(arranged, self._embed(batch, arranged, joint))
        memory_TD = states_TD[: arranged.document_tokens]
        if arranged.memory_T is not None:
            memory_TD = memory_TD.index_select(0, arranged.memory_T)
        return Encoded(texts_TD=states_TD, visual_SV=states_TD.index_select(0, joint.visual_S), memory_TD=memory_TD)

    def _embed(self, batch: Batch, arranged: Arranged, joint: Joint) -> Tensor:
        """Return the embedded regions of the images that are read so, and patches likewise: (K, D)."""
        self._check_images(batch)
        parts = []
        if self.vision is not None:
            image_X, place_X = (of_X.index_select(0, joint.region_X) for of_X in (arranged.image_X, arranged.place_X))
            roi_XRF, boxes_XR4 = (images(of_BI, image_X) for of_BI in (batch.roi_BIRV, batch.boxes_BIR4))
            parts.append(self.vision.embed(roi_XRF, boxes_XR4, place_X).flatten(0, 1))
        if self.patches is not None:
            if batch.pixels_BIHWC is None:
                raise InputError(
                    "the batch has no pixels, which the network reads as patches: name `pixels` in `needs`"
                )
            image_X, place_X = (of_X.index_select(0, joint.patch_X) for of_X in (arranged.image_X, arranged.place_X))
            parts.append(self.patches(images(batch.pixels_BIHWC, image_X), place_X).flatten(0, 1))
        return torch.cat(parts)

    def _encode(self, arranged: Arranged, visual_KD: Tensor) -> Tensor:
        joint, words_WD = arranged.joint, self.backbone.embed(arranged.ids_T)
        assert joint is not None
        # Of no image, too, the embeddings take part, as every parameter must in every step.
        parts = (words_WD, visual_KD.to(words_WD.dtype), self.special.weight.to(words_WD.dtype))
        return self.backbone.encode_embedded(torch.cat(parts).index_select(0, joint.index_T), arranged.texts)


def network_type(config: NetworkConfig) -> type[Network]:
    """Return the class of the network that `config` describes."""
    return Network if config.joint is None else EarlyNetwork
