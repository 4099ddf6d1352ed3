"""Fuse text and vision as the paper's section 2.2: cross-modal attention, forget gate, projection.

    M = CrossMAttn(H W_q, H_V W_k, H_V W_v)          (T, C)
    G = sigmoid(Concat(H, M) W_g + b_g),  Z_V = G * M
    Z = Concat(H, Z_V) W_z + b_z                     (T, D)

Shape suffixes as in models/ragged.py; S regions of all images, V the width of the visual encoder, C the common width.
"""

import torch
from torch import Tensor, nn

from models.attention import attend
from models.config import FusionConfig
from models.ragged import Layout


class Fusion(nn.Module):
    """Add images to the states of the texts that look at them.

    W_q, W_k, W_v have no bias and the heads are concatenated without another projection, as the paper writes
    them: the gate and W_z follow at once. W_z starts at [I; 0] and b_z at 0, so that Z = H at step 0 and the
    pretrained decoder sees the encoder that it knows; `visual_start` puts something else in place of that 0.
    """

    def __init__(self, config: FusionConfig, text_size: int, vision_size: int) -> None:
        super().__init__()
        common = config.hidden_size
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.query = nn.Linear(text_size, common, bias=False)
        self.key = nn.Linear(vision_size, common, bias=False)
        self.value = nn.Linear(vision_size, common, bias=False)
        self.gate = nn.Linear(text_size + common, common)
        self.output = nn.Linear(text_size + common, text_size)
        with torch.no_grad():
            self.output.weight.zero_()
            self.output.weight[:, :text_size].fill_diagonal_(1.0)
            self.output.weight[:, text_size:].fill_diagonal_(config.visual_start)
            self.output.bias.zero_()

    def attend(self, text_TD: Tensor, visual_SV: Tensor, layout: Layout, seen_T1: Tensor) -> Tensor:
        """Return M (T, C): exactly zero for a token without images."""
        attended_TC = attend(
            self.query(text_TD),
            self.key(visual_SV),
            self.value(visual_SV),
            layout,
            heads=self.num_heads,
            scale=(self.query.out_features // self.num_heads) ** -0.5,
            dropout=self.dropout if self.training else 0.0,
        )
        return attended_TC * seen_T1.to(attended_TC.dtype)

    def forward(self, text_TD: Tensor, visual_SV: Tensor, layout: Layout, seen_T1: Tensor) -> Tensor:
        """Return Z (T, D). layout: the regions that a text looks at; seen_T1 (bool): False where there are none."""
        attended_TC = self.attend(text_TD, visual_SV, layout, seen_T1)
        gate_TC = torch.sigmoid(self.gate(torch.cat((text_TD, attended_TC), dim=-1)))
        fused: Tensor = self.output(torch.cat((text_TD, gate_TC * attended_TC), dim=-1))
        return fused
