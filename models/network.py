"""The MMS model of the paper's section 2.2: text encoder, visual encoder, fusion, decoder, head.

Shape suffixes as in shards/schema.py; Q rows of texts stacked from several branches, T selected target tokens.
Teacher and student are this one network on different documents.
"""

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, MT5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from models.backbones.mt5 import MT5Backbone
from models.config import NetworkConfig
from models.fusion import Fusion
from models.losses.linear_cross_entropy import linear_cross_entropy
from models.packing import Tokens, pack, pack_mask, pad_to, unpack
from models.vision import Visual, VisualEncoder
from shards.schema import Batch


class Network(nn.Module):
    """p(y_t | X, V, y_<t). With `vision.enabled` false it has no visual parameters and fusion is the identity.

    vocab_size, pad_id, eos_id: the tokenizer's. `vocab_size` afterwards is W, the rows of the head.
    """

    def __init__(self, config: NetworkConfig, vocab_size: int, pad_id: int, eos_id: int) -> None:
        super().__init__()
        self.config, self.pad_id, self.eos_id = config, pad_id, eos_id
        self.backbone = MT5Backbone(config.text, vocab_size, pad_id, eos_id)
        self.vocab_size, self.hidden_size = self.backbone.vocab_size, self.backbone.hidden_size
        self.vision = VisualEncoder(config.vision) if config.vision.enabled else None
        self.fusion = Fusion(config.fusion, self.hidden_size, config.vision.width) if config.vision.enabled else None

    def encode_text(self, ids_BM: Tensor, mask: Tensor) -> Tensor:
        """H_T^{N_e} (B, M, D). mask: (B, M) bool, or (B, 1, M, M) bool of allowed pairs."""
        return self.backbone.encode(ids_BM, mask)

    def encode_texts(
        self, documents: Sequence[Tokens], summaries: Tokens | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """All texts of a step in one encoder call.

        Returns the states of the documents stacked and padded to a common length (Q, M, D), their mask (Q, M),
        and the states of the summaries (B, N, D), before any fusion, where there are summaries.
        """
        widths = [text.ids_BM.shape[1] for text in (*documents, *([summaries] if summaries else []))]
        length = max(widths)
        padded = [pad_to(document, length, self.pad_id) for document in documents]
        ids_QM = torch.cat([document.ids_BM for document in padded])
        mask_QM = torch.cat([document.mask_BM for document in padded])
        if summaries is None:
            return self.encode_text(ids_QM, mask_QM), mask_QM, None
        rows, width = summaries.ids_BM.shape
        packed = pack(summaries, length, self.pad_id)
        documents_Q1MM = mask_QM[:, None, None, :].expand(-1, 1, length, -1)
        mask_Q1MM = torch.cat((documents_Q1MM, pack_mask(packed.mask_BM, width)))
        states_QMD = self.encode_text(torch.cat((ids_QM, packed.ids_BM)), mask_Q1MM)
        summaries_BND = unpack(states_QMD[len(ids_QM) :], rows, width)
        return states_QMD[: len(ids_QM)], mask_QM, summaries_BND

    def encode_vision(self, roi_BIRV: Tensor, boxes_BIR4: Tensor, image_mask_BI: Tensor) -> Visual | None:
        """H_V^{N_v} flattened to (B, I * R, V) with its key mask; None without visual features."""
        if self.vision is None:
            return None
        visual: Visual = self.vision(roi_BIRV, boxes_BIR4, image_mask_BI)
        return visual

    def fuse(self, text_QMD: Tensor, visual: Visual | None, rows_Q: Tensor | None = None) -> Tensor:
        """Z_{T+V} (Q, M, D). rows_Q says whose images text row q looks at; None: its own."""
        if self.fusion is None:
            return text_QMD
        assert visual is not None, "a network with vision always runs its visual path"
        fused: Tensor = self.fusion(text_QMD, visual, rows_Q)
        return fused

    def decode(
        self,
        start_B: Tensor,
        summary_ids_BN: Tensor,
        summary_mask_BN: Tensor,
        memory_BMD: Tensor,
        memory_mask_BM: Tensor,
    ) -> Tensor:
        """H_dec^{N_d} (B, N, D), Eq. 1, teacher forced: state t predicts summary token t.

        The input is the summary shifted right behind each row's own start token (its target language).
        """
        shifted_BN = torch.cat((start_B[:, None], summary_ids_BN[:, :-1]), dim=1)
        # Where a summary is padded its ids may be anything; the pad id keeps them within the embeddings.
        real_BN = torch.cat((torch.ones_like(start_B[:, None], dtype=torch.bool), summary_mask_BN[:, :-1]), dim=1)
        return self.backbone.decode(shifted_BN.masked_fill(~real_BN, self.pad_id), memory_BMD, memory_mask_BM)

    def logits(self, hidden: Tensor) -> Tensor:
        """W_o Z + b_o, (..., D) to (..., W). Select the real tokens first: a token costs W numbers."""
        logits: Tensor = self.backbone.head(hidden)
        return logits

    def token_loss(self, hidden_TD: Tensor, target_T: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """Sum of the smoothed cross-entropy (Eqs. 2, 4) and detached plain nll a token (T,), without (T, W) logits."""
        head = self.backbone.head
        return linear_cross_entropy(hidden_TD, head.weight, head.bias, target_T, label_smoothing)

    def memory(self, batch: Batch, branch: Literal["source", "target"]) -> tuple[Tensor, Tensor]:
        """What the decoder attends to for one branch: Z_{T+V} (B, M, D) and its mask (B, M)."""
        ids_BM, mask_BM = (
            (batch.source_ids_BM, batch.source_mask_BM)
            if branch == "source"
            else (batch.target_ids_BM, batch.target_mask_BM)
        )
        visual = self.encode_vision(batch.roi_BIRV, batch.boxes_BIR4, batch.image_mask_BI)
        return self.fuse(self.encode_text(ids_BM, mask_BM), visual), mask_BM

    def row_nll(self, batch: Batch, branch: Literal["source", "target"] = "source") -> tuple[Tensor, Tensor]:
        """Plain negative log-likelihood of each row's summary (Eqs. 2, 4; nats) and its tokens, both (B,) float32.

        For validation: no smoothing, no gradient. Placeholder rows (weight 0) give 0 and 0.
        """
        memory_BMD, mask_BM = self.memory(batch, branch)
        hidden_BND = self.decode(batch.start_B, batch.summary_ids_BN, batch.summary_mask_BN, memory_BMD, mask_BM)
        mask_BN = batch.summary_mask_BN & (batch.weight_B > 0)[:, None]
        _, nll_T = self.token_loss(hidden_BND[mask_BN], batch.summary_ids_BN[mask_BN], 0.0)
        nll_BN = torch.zeros_like(mask_BN, dtype=nll_T.dtype).masked_scatter(mask_BN, nll_T)
        return nll_BN.sum(dim=1), mask_BN.sum(dim=1).float()

    @torch.no_grad()
    def generate(
        self, batch: Batch, num_beams: int = 4, length_penalty: float = 0.6, max_new_tokens: int = 84
    ) -> Tensor:
        """Summaries of the source documents, (B, at most max_new_tokens) int64, ending with the end token, padded.

        Beam 4 and length penalty 0.6 are the paper's Appendix B. Each row starts with its own start token, which
        is not part of what is returned. Call it in eval mode.
        """
        assert not self.training, "generate() under dropout: call eval() first"
        memory_BMD, mask_BM = self.memory(batch, "source")
        config = GenerationConfig(
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=self.pad_id,
            eos_token_id=self.eos_id,
            # As a list, one token a row. As `decoder_input_ids`, transformers would put its own start before them.
            decoder_start_token_id=batch.start_B.tolist(),
        )
        ids_BN: Tensor = self._generator().generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory_BMD),
            attention_mask=mask_BM.long(),
            generation_config=config,
        )
        return ids_BN[:, 1:]

    def _generator(self) -> MT5ForConditionalGeneration:
        """transformers' generation loop around our own modules; made anew so that no parameter is listed twice."""
        config = copy.deepcopy(self.backbone.model.config)
        # generate() sizes the decoder's cache by `num_layers`, which is the encoder's depth.
        config.num_layers = config.num_decoder_layers
        with torch.device("meta"):
            generator = MT5ForConditionalGeneration(config)
        generator.shared = self.backbone.model.shared
        generator.encoder, generator.decoder = self.backbone.encoder, self.backbone.decoder
        generator.lm_head = self.backbone.head
        return generator.eval()
