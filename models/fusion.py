"""Text-vision fusion of the paper's section 2.2: cross-modal attention, forget gate, projection.

    M = CrossMAttn(H W_q, H_V W_k, H_V W_v)          (B, M, C)
    G = sigmoid(Concat(H, M) W_g + b_g),  Z_V = G * M
    Z = Concat(H, Z_V) W_z + b_z                     (B, M, D)

Shape suffixes as in shards/schema.py; V is the width of the visual encoder, Q a row of texts (several texts may
look at the same images), A the heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import FusionConfig
from models.vision import Visual


class Fusion(nn.Module):
    """Injects the images of a row into its text states.

    W_q, W_k, W_v have no bias and the heads are concatenated without another projection, as the paper writes
    them: the gate and W_z follow at once. W_z starts at [I; 0] and b_z at 0, so that Z = H at step 0 and the
    pretrained decoder sees the encoder that it knows.
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
            self.output.bias.zero_()

    def attend(self, text_QMD: Tensor, visual: Visual, rows_Q: Tensor | None) -> Tensor:
        """M (Q, M, C): exactly zero for a row without images."""
        # Keys and values are projected once an image sequence, then handed to each text that looks at it.
        key_QKC, value_QKC = self.key(visual.states_BKV), self.value(visual.states_BKV)
        mask_QK = visual.mask_BK
        if rows_Q is not None:
            key_QKC, value_QKC, mask_QK = key_QKC[rows_Q], value_QKC[rows_Q], mask_QK[rows_Q]
        seen_Q1 = mask_QK.any(dim=1, keepdim=True)
        attended_QAMC = F.scaled_dot_product_attention(
            self._heads(self.query(text_QMD)),
            self._heads(key_QKC),
            self._heads(value_QKC),
            # A softmax over no key is NaN; such a row attends to everything and is zeroed below.
            attn_mask=(mask_QK | ~seen_Q1)[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended_QMC = attended_QAMC.transpose(1, 2).flatten(2)
        return attended_QMC * seen_Q1[:, :, None].to(attended_QMC.dtype)

    def forward(self, text_QMD: Tensor, visual: Visual, rows_Q: Tensor | None = None) -> Tensor:
        """Z (Q, M, D). rows_Q says whose images text row q looks at; None: its own."""
        attended_QMC = self.attend(text_QMD, visual, rows_Q)
        gate_QMC = torch.sigmoid(self.gate(torch.cat((text_QMD, attended_QMC), dim=-1)))
        fused: Tensor = self.output(torch.cat((text_QMD, gate_QMC * attended_QMC), dim=-1))
        return fused

    def _heads(self, x_QKC: Tensor) -> Tensor:
        rows, length, width = x_QKC.shape
        return x_QKC.view(rows, length, self.num_heads, width // self.num_heads).transpose(1, 2)
