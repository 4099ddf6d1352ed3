"""The visual encoder of the paper's section 2.2: region features with positions, then N_v Transformer layers.

    v_ij = o_ij + E^box_ij + E^img_i + E^reg_j
    S = SelfAttn(H) + H,  H' = FFN(S) + S,  each followed by a LayerNorm ("layer normalization: postnorm", Table 5)

Shape suffixes as in shards/schema.py; here V is the encoder's width (d_v, or `hidden_size`) and F that of the
stored features.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.config import VisionConfig
from shards.errors import InputError


class Visual(NamedTuple):
    """The image sequence of each row after the encoder."""

    states_BKV: Tensor  # H_V^{N_v}, K = I * R
    mask_BK: Tensor  # bool, True at regions of real images; a row without images is all False


class VisualEncoder(nn.Module):
    """Embeds and encodes region features. Always runs: where there are no images its output is masked."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.project = None if config.hidden_size is None else nn.Linear(config.feature_size, width)
        self.box = nn.Linear(4, width)
        self.image = nn.Embedding(config.max_images, width)
        self.region = nn.Embedding(config.regions, width)
        # torch's default of N(0, 1) would drown region features, which are mostly well below 1.
        nn.init.normal_(self.image.weight, std=0.02)
        nn.init.normal_(self.region.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, config.num_heads, config.ffn_size, config.dropout, batch_first=True, norm_first=False
        )
        # Nested tensors would drop masked positions and change the shape that the fusion expects.
        self.layers = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        for parameter in self.layers.parameters():
            # TransformerEncoder copies one layer; without this all N_v layers start equal.
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def embed(self, roi_BIRF: Tensor, boxes_BIR4: Tensor) -> Tensor:
        """v_ij (B, I, R, V) in the parameters' dtype; features are stored as float16."""
        _, images, regions, features = roi_BIRF.shape
        config = self.config
        if images > config.max_images or regions > config.regions or features != config.feature_size:
            raise InputError(
                f"image features of {images} images x {regions} regions x {features} do not fit network.vision "
                f"(max_images {config.max_images}, regions {config.regions}, feature_size {config.feature_size})"
            )
        dtype = self.box.weight.dtype
        o_BIRV = roi_BIRF.to(dtype) if self.project is None else self.project(roi_BIRF.to(dtype))
        box_BIRV = self.box(boxes_BIR4.to(dtype))
        embedded: Tensor = o_BIRV + box_BIRV + self.image.weight[:images, None] + self.region.weight[:regions]
        return embedded

    def forward(self, roi_BIRF: Tensor, boxes_BIR4: Tensor, image_mask_BI: Tensor) -> Visual:
        """roi (B, I, R, F) any float dtype, boxes (B, I, R, 4) in [0, 1], image_mask (B, I) bool."""
        v_BKV = self.embed(roi_BIRF, boxes_BIR4).flatten(1, 2)
        mask_BK = image_mask_BI.repeat_interleave(roi_BIRF.shape[2], dim=1)
        # A softmax over no key is NaN: a row without images attends to its zeros instead, and is masked later.
        attended_BK = mask_BK | ~mask_BK.any(dim=1, keepdim=True)
        states_BKV = self.layers(v_BKV, src_key_padding_mask=~attended_BK)
        return Visual(states_BKV, mask_BK)


def masked_mean(states_BKD: Tensor, mask_BK: Tensor) -> Tensor:
    """Mean over the True positions (B, D), zeros for a row without any (the pooling above Eq. 9)."""
    weight_BK = mask_BK.to(states_BKD.dtype)
    total_BD = torch.einsum("bkd,bk->bd", states_BKD, weight_BK)
    return total_BD / weight_BK.sum(dim=1, keepdim=True).clamp(min=1)
