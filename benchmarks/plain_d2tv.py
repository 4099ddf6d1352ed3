"""D2TV as one writes it in an afternoon with `transformers`: what `benchmarks.step` compares our step with.

Every text is padded to the full length and every row to all images; source documents, target documents and
summaries go through the encoder one after the other, teacher and student through the decoder one after the other;
the head makes all logits. The numbers are those of models/objectives/d2tv.py, which tests/numerics holds, and
nothing of it is used here. Shape suffixes as in shards/schema.py.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MT5Config, MT5Model

from models.config import NetworkConfig
from shards.batch.types import Batch

#: Where the parameters of each part are called what in our objective.
_NAMES = {
    "mt5.": "network.backbone.model.",
    "head.": "network.backbone.head.",
    "feature.": "network.vision.project.",
    "box.": "network.vision.box.",
    "image.": "network.vision.image.",
    "region.": "network.vision.region.",
    "visual_encoder.": "network.vision.layers.",
    "fusion.": "network.fusion.",
    "mlp.": "project.",
}


class PlainFusion(nn.Module):
    """Cross-modal attention, gate, projection (the paper's section 2.2)."""

    def __init__(self, text: int, visual: int, common: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(text, common, bias=False)
        self.key = nn.Linear(visual, common, bias=False)
        self.value = nn.Linear(visual, common, bias=False)
        self.gate = nn.Linear(text + common, common)
        self.output = nn.Linear(text + common, text)

    def forward(self, text_BMD: Tensor, visual_BKV: Tensor, mask_BK: Tensor) -> Tensor:
        """Z_{T+V} (B, M, D)."""
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (self.query(text_BMD), self.key(visual_BKV), self.value(visual_BKV))
        )
        seen_B1 = mask_BK.any(dim=1, keepdim=True)
        attended_BMC = (
            F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=(mask_BK | ~seen_B1)[:, None, None, :],
                dropout_p=self.dropout if self.training else 0.0,
            )
            .transpose(1, 2)
            .flatten(2)
        )
        attended_BMC = attended_BMC * seen_B1[:, :, None]
        gate_BMC = torch.sigmoid(self.gate(torch.cat((text_BMD, attended_BMC), dim=-1)))
        fused_BMD: Tensor = self.output(torch.cat((text_BMD, gate_BMC * attended_BMC), dim=-1))
        return fused_BMD


class PlainD2TV(nn.Module):
    """The full method, Eq. 10: teacher, student, dual distillation by cosine, contrast. `forward` gives J.

    J is averaged over the tokens and anchors of the batch, which needs a row of each kind. The student reads
    monolingual rows too, whose labels are then ignored.

    vocab_size: rows of the embeddings and of the head. document, summary: tokens that texts are padded to.
    """

    def __init__(
        self,
        config: NetworkConfig,
        vocab_size: int,
        *,
        pad_id: int,
        document: int = 512,
        summary: int = 84,
        alpha_steps: int = 5000,
        beta: float = 1.0,
        temperature: float = 0.1,
        label_smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        self.pad_id, self.document, self.summary = pad_id, document, summary
        self.alpha_steps, self.beta = alpha_steps, beta
        self.temperature, self.label_smoothing = temperature, label_smoothing
        text, vision, fusion = config.text, config.vision, config.fusion
        optional = {
            name: value
            for name in ("relative_attention_num_buckets", "relative_attention_max_distance", "feed_forward_proj")
            if (value := getattr(text, name)) is not None
        }
        self.mt5 = MT5Model(
            MT5Config(
                vocab_size=vocab_size,
                d_model=text.d_model,
                d_ff=text.d_ff,
                d_kv=text.d_kv,
                num_heads=text.num_heads,
                num_layers=text.num_layers,
                num_decoder_layers=text.num_decoder_layers or text.num_layers,
                dropout_rate=text.dropout,
                pad_token_id=pad_id,
                **optional,
            )
        )
        width: int = self.mt5.config.d_model
        self.head = nn.Linear(width, vocab_size)
        # As random weights are chosen in models/backbones/mt5.py: a loss near log W, so that training goes as usual.
        nn.init.normal_(self.head.weight, std=width**-0.5)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.mt5.shared.weight, std=width**-0.5)

        self.max_images, self.regions = vision.max_images, vision.regions
        self.feature = nn.Linear(vision.feature_size, vision.width) if vision.hidden_size else nn.Identity()
        self.box = nn.Linear(4, vision.width)
        self.image = nn.Embedding(vision.max_images, vision.width)
        self.region = nn.Embedding(vision.regions, vision.width)
        layer = nn.TransformerEncoderLayer(
            vision.width, vision.num_heads, vision.ffn_size, vision.dropout, batch_first=True
        )
        self.visual_encoder = nn.TransformerEncoder(layer, vision.num_layers, enable_nested_tensor=False)
        self.fusion = PlainFusion(width, vision.width, fusion.hidden_size, fusion.num_heads, fusion.dropout)
        self.mlp = nn.Linear(vision.width, width)

    def load_parameters(self, theirs: Mapping[str, Tensor]) -> None:
        """Take the weights of our objective, by the names of its parameters."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(theirs[their_name(name)])

    def forward(self, batch: Batch, step: int) -> Tensor:
        """J of Eq. 10 on this batch alone; step: optimizer steps taken so far."""
        source_BM, source_mask_BM = self._pad(batch.source_ids_BM, batch.source_mask_BM, self.document)
        target_BM, target_mask_BM = self._pad(batch.target_ids_BM, batch.target_mask_BM, self.document)
        summary_BN, summary_mask_BN = self._pad(batch.summary_ids_BN, batch.summary_mask_BN, self.summary)

        visual_BKV, visual_mask_BK = self.see(batch)
        source_BMD = self.fusion(self.encode(source_BM, source_mask_BM), visual_BKV, visual_mask_BK)
        target_BMD = self.fusion(self.encode(target_BM, target_mask_BM), visual_BKV, visual_mask_BK)
        shifted_BN = torch.cat((batch.start_B[:, None], summary_BN[:, :-1]), dim=1)
        teacher_BND = self.decode(shifted_BN, target_BMD, target_mask_BM)
        student_BND = self.decode(shifted_BN, source_BMD, source_mask_BM)

        real_B = batch.weight_B > 0
        label_BN = summary_BN.masked_fill(~real_B[:, None], self.pad_id)
        cross_label_BN = label_BN.masked_fill(~batch.cross_B[:, None], self.pad_id)
        mms, mxls = self.cross_entropy(teacher_BND, label_BN), self.cross_entropy(student_BND, cross_label_BN)

        learned_BN = cross_label_BN != self.pad_id
        to_student_BN = 1 - F.cosine_similarity(teacher_BND.detach(), student_BND, dim=-1)
        to_teacher_BN = 1 - F.cosine_similarity(student_BND.detach(), teacher_BND, dim=-1)
        alpha = max(0.5, 1 - step / self.alpha_steps)
        distilled = alpha * to_student_BN[learned_BN].mean() + (1 - alpha) * to_teacher_BN[learned_BN].mean()

        summary_BND = self.encode(summary_BN, summary_mask_BN)
        tco = self.contrast(visual_BKV, visual_mask_BK, summary_BND, summary_mask_BN, batch)
        total: Tensor = mms + mxls + distilled + self.beta * tco
        return total

    def encode(self, ids_BM: Tensor, mask_BM: Tensor) -> Tensor:
        states_BMD: Tensor = self.mt5.encoder(input_ids=ids_BM, attention_mask=mask_BM).last_hidden_state
        return states_BMD

    def decode(self, ids_BN: Tensor, memory_BMD: Tensor, mask_BM: Tensor) -> Tensor:
        states_BND: Tensor = self.mt5.decoder(
            input_ids=ids_BN, encoder_hidden_states=memory_BMD, encoder_attention_mask=mask_BM, use_cache=False
        ).last_hidden_state
        return states_BND

    def see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """All regions of all images, real or not, through the visual encoder."""
        missing = self.max_images - batch.image_mask_BI.shape[1]
        roi_BIRF = F.pad(batch.roi_BIRV, (0, 0, 0, 0, 0, missing)).to(self.box.weight.dtype)
        boxes_BIR4 = F.pad(batch.boxes_BIR4, (0, 0, 0, 0, 0, missing)).to(self.box.weight.dtype)
        mask_BK = F.pad(batch.image_mask_BI, (0, missing)).repeat_interleave(self.regions, dim=1)
        embedded_BIRV = self.feature(roi_BIRF) + self.box(boxes_BIR4)
        embedded_BIRV = embedded_BIRV + self.image.weight[:, None] + self.region.weight
        # A softmax over no key is NaN.
        ignored_BK = ~mask_BK & mask_BK.any(dim=1, keepdim=True)
        return self.visual_encoder(embedded_BIRV.flatten(1, 2), src_key_padding_mask=ignored_BK), mask_BK

    def cross_entropy(self, states_BND: Tensor, label_BN: Tensor) -> Tensor:
        """Eqs. 2 and 4 a token."""
        logits_BNW = self.head(states_BND)
        return F.cross_entropy(
            logits_BNW.flatten(0, 1),
            label_BN.flatten(),
            ignore_index=self.pad_id,
            label_smoothing=self.label_smoothing,
        )

    def contrast(
        self, visual_BKV: Tensor, visual_mask_BK: Tensor, summary_BND: Tensor, summary_mask_BN: Tensor, batch: Batch
    ) -> Tensor:
        """Eq. 9 an anchor: rows with images, against the other stories of their group."""
        vision_BD = F.normalize(_mean(self.mlp(visual_BKV), visual_mask_BK), dim=-1)
        score_BB = vision_BD @ F.normalize(_mean(summary_BND, summary_mask_BN), dim=-1).T / self.temperature
        real_B = batch.weight_B > 0
        negative_BB = (batch.group_B[:, None] == batch.group_B) & (batch.story_B[:, None] != batch.story_B) & real_B
        own_B = torch.arange(len(batch), device=score_BB.device)
        negative_BB[own_B, own_B] = True
        anchor_B = visual_mask_BK.any(dim=1) & real_B
        score_BB = score_BB.masked_fill(~negative_BB, -torch.inf)
        return F.cross_entropy(score_BB[anchor_B], own_B[anchor_B])

    def _pad(self, ids_BM: Tensor, mask_BM: Tensor, length: int) -> tuple[Tensor, Tensor]:
        missing = length - ids_BM.shape[1]
        return F.pad(ids_BM, (0, missing), value=self.pad_id), F.pad(mask_BM, (0, missing))


def their_name(name: str) -> str:
    """Return our objective's name for the parameter `name` of `PlainD2TV`."""
    prefix = next(prefix for prefix in _NAMES if name.startswith(prefix))
    return _NAMES[prefix] + name.removeprefix(prefix)


def _mean(states_BKD: Tensor, mask_BK: Tensor) -> Tensor:
    total_BD = (states_BKD * mask_BK[:, :, None]).sum(dim=1)
    return total_BD / mask_BK.sum(dim=1, keepdim=True).clamp(min=1)
