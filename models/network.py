"""The MMS model of the paper's section 2.2: text encoder, visual encoder, fusion, decoder, head.

Teacher and student are this one network on different documents. It computes what models/arrangement.py found that a
micro-batch needs: flat streams of real tokens, every text and image once.
Shape suffixes as in models/ragged.py; S regions of all images, T tokens of the texts at hand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from models.arranged import Arranged, DecoderStream
from models.arrangement import Arrangement
from models.backbones.base import Backbone
from models.backbones.build import build_backbone
from models.backbones.memory import Memory
from models.config import Decoding, NetworkConfig
from models.decoding import logits_processors
from models.dropout import dropout
from models.flops import BackboneSizes, Flops, forward_flops
from models.fusion import Fusion
from models.layers import LayerRunner
from models.losses.linear_cross_entropy import linear_cross_entropy
from models.numbering import SUMMARIES
from models.shapes import VisualInputs
from models.sharing import Text
from models.vision import RegionEmbedding, VisualEncoder, images
from shards.batch.types import Batch
from shards.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """States that the network computes of what was arranged, before anything is decoded."""

    texts_TD: Tensor  # of the encoder's stream, H_T^{N_e}
    visual_SV: Tensor | None  # of the image sequences, H_V^{N_v}; None without visual features
    memory_TD: Tensor  # of the memories, Z_{T+V}


@dataclass(frozen=True, kw_only=True, slots=True)
class States(Encoded):
    """All states that the network computes of what was arranged."""

    hidden_TD: Tensor  # of the main decoder's stream, H_dec^{N_d}: state t predicts target token t


class Network(nn.Module):
    """p(y_t | X, V, y_<t). With `vision.enabled` false it has no visual parameters and fusion is the identity.

    vocab_size, pad_id, eos_id, related_ids, start_ids, marks_texts: the tokenizer's. `vocab_size` afterwards is W, the
    rows of the head. `visual_size` is V of the states of images.
    """

    vision: RegionEmbedding | None

    def __init__(
        self,
        config: NetworkConfig,
        vocab_size: int,
        pad_id: int,
        eos_id: int,
        *,
        related_ids: Mapping[int, Sequence[int]] = MappingProxyType({}),
        start_ids: Sequence[int] = (),
        marks_texts: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.pad_id, self.eos_id, self.marks_texts = config, pad_id, eos_id, marks_texts
        self.backbone: Backbone = build_backbone(config.text, vocab_size, pad_id, eos_id, related_ids, start_ids)
        self.vocab_size, self.hidden_size = self.backbone.vocab_size, self.backbone.hidden_size
        self._add_vision()

    def _add_vision(self) -> None:
        vision = self.config.vision
        self.visual_size = vision.width
        self.vision = VisualEncoder(vision) if vision.enabled else None
        self.fusion = Fusion(self.config.fusion, self.hidden_size, vision.width) if vision.enabled else None

    def run_layers(self, *, activation_checkpointing: bool, compile: bool) -> None:
        """Set how the layers of encoders and decoder run in training (models/layers.py)."""
        runner = LayerRunner(activation_checkpointing=activation_checkpointing, compile=compile)
        self.backbone.runner = runner
        if isinstance(self.vision, VisualEncoder):
            self.vision.runner = runner

    def arrangement(
        self,
        batch: Batch,
        *,
        share: bool = True,
        tagged: bool = False,
        inputs: Mapping[int, VisualInputs] = MappingProxyType({}),
    ) -> Arrangement:
        """Begin to ask for what this network is to compute of a batch. share, tagged: as of `Arrangement`.

        inputs: of the rows whose images an encoder reads as something else than `network.vision.inputs`.
        """
        forms = {row: self.config.form(of) for row, of in inputs.items()}
        return Arrangement(
            batch, share=share, marked=self.marks_texts, joint=self.config.joint, forms=forms, tagged=tagged
        )

    def encode(self, arranged: Arranged) -> Tensor:
        """H_T^{N_e} (T, D) of all texts of a micro-batch, in one encoder call."""
        return self.backbone.encode(arranged.ids_T, arranged.texts)

    def encode_vision(self, batch: Batch, arranged: Arranged, hidden_S: Tensor | None = None) -> Tensor | None:
        """H_V^{N_v} (S, V) of the image sequences; None without visual features.

        hidden_S: int64, regions whose features are zero, as if nothing were known but their boxes.
        """
        if not isinstance(self.vision, VisualEncoder):
            return None
        visual_SV: Tensor = self.vision(*self._regions(batch, arranged, hidden_S), arranged.place_X, arranged.images)
        return visual_SV

    def _regions(self, batch: Batch, arranged: Arranged, hidden_S: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return features and boxes of the images to encode. hidden_S: as of `encode_vision`."""
        self._check_images(batch)
        roi_XRF, boxes_XR4 = (images(of_BI, arranged.image_X) for of_BI in (batch.roi_BIRV, batch.boxes_BIR4))
        if hidden_S is not None:
            roi_XRF = roi_XRF.flatten(0, 1).index_fill(0, hidden_S, 0.0).view_as(roi_XRF)
        return roi_XRF, boxes_XR4

    def _check_images(self, batch: Batch) -> None:
        most = self.config.vision.max_images
        if batch.roi_BIRV.shape[1] > most:
            raise InputError(f"{batch.roi_BIRV.shape[1]} images an article do not fit network.vision.max_images {most}")

    def fuse(self, documents_TD: Tensor, visual_SV: Tensor | None, arranged: Arranged) -> Tensor:
        """Z_{T+V} (T, D) of the memories; without visual features the documents themselves."""
        if arranged.memory_T is not None:
            documents_TD = documents_TD.index_select(0, arranged.memory_T)
        if self.fusion is None:
            return documents_TD
        assert visual_SV is not None, "a network with vision always runs its visual path"
        assert arranged.fusion is not None, "nothing is decoded"
        fused_TD: Tensor = self.fusion(documents_TD, visual_SV, arranged.fusion, arranged.seen_T1)
        return fused_TD

    def decode(self, memory_TD: Tensor, stream: DecoderStream, decoder: nn.Module | None = None) -> Tensor:
        """H_dec^{N_d} (T, D), Eq. 1, teacher forced: state t predicts target token t. Before the last dropout.

        The input is each summary shifted right behind its own start token (its target language). decoder: another than
        the network's own (`Backbone.further_decoder`).
        """
        return self.backbone.decode(stream.ids_T, stream.layout, memory_TD, stream.cross, decoder)

    def read(self, batch: Batch, arranged: Arranged) -> Encoded:
        """Return the states of texts, images and memories, with one call each of vision, encoder and fusion."""
        visual_SV = self.encode_vision(batch, arranged)
        texts_TD = self.encode(arranged)
        memory_TD = self.fuse(texts_TD[: arranged.document_tokens], visual_SV, arranged)
        return Encoded(texts_TD=texts_TD, visual_SV=visual_SV, memory_TD=memory_TD)

    def states(self, batch: Batch, arranged: Arranged, regions: Callable[[Tensor], Tensor] | None = None) -> States:
        """Return all states of what was arranged, with one call each of vision, encoder, fusion and decoder.

        regions: makes memories of images alone, (S, D) of (S, V); needed where there are some.
        """
        read = self.read(batch, arranged)
        visual_SV, memory_TD = read.visual_SV, read.memory_TD
        if arranged.alone_S is not None:
            assert regions is not None
            assert visual_SV is not None
            memory_TD = torch.cat((memory_TD, regions(visual_SV.index_select(0, arranged.alone_S))))
        hidden_TD = self.decode(memory_TD, arranged.main)
        return States(texts_TD=read.texts_TD, visual_SV=visual_SV, memory_TD=memory_TD, hidden_TD=hidden_TD)

    def logits(self, hidden: Tensor) -> Tensor:
        """W_o Z + b_o, (..., D) to (..., W). A token costs W numbers."""
        logits: Tensor = self.backbone.head(hidden)
        return logits

    def token_loss(
        self, hidden_TD: Tensor, target_T: Tensor, label_smoothing: float, weight_T: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of the smoothed cross-entropy (Eqs. 2, 4) and detached plain nll a token (T,), without (T, W) logits.

        hidden_TD: as `decode` returns it; in training the last dropout comes between it and the head.
        """
        head = self.backbone.head
        hidden_TD = dropout(hidden_TD, self.backbone.output_dropout, self.training)
        return linear_cross_entropy(hidden_TD, head.weight, head.bias, target_T, label_smoothing, weight_T=weight_T)

    def flops(self, arrangement: Arrangement, own: int = 0) -> Flops:
        """Count the operations of a forward pass over what is arranged. own: of the objective's own layers."""
        sizes = BackboneSizes.of(self.backbone.model.config)
        return forward_flops(arrangement.lengths(), self.config, sizes, own)

    def place(self, arranged: Arranged) -> Arranged:
        """`arranged` where the parameters are, its masks in their precision."""
        weight = self.backbone.head.weight
        return arranged.to(weight.device, weight.dtype)

    def writing(self, batch: Batch, name: str, reads: Text, rows: Sequence[int]) -> Arrangement:
        """Ask for each row's summary, written from the text `reads` with the row's images, as the part `name`.

        A name (a summary that is read) begins with its language's token, as RC³'s pre-training has it.
        """
        arrangement = self.arrangement(batch, tagged=reads in SUMMARIES)
        arrangement.decode(name, reads, rows, seen=True)
        return arrangement

    def row_nll(self, batch: Batch, reads: Text = "source") -> tuple[Tensor, Tensor]:
        """Plain negative log-likelihood of each row's summary (Eqs. 2, 4; nats) and its tokens, both (B,) float32.

        For validation: no smoothing, no gradient. Placeholder rows (weight 0) give 0 and 0. `batch` is on the host.
        reads: as of `writing`.
        """
        arrangement = self.writing(batch, "nll", reads, real_rows(batch))
        arranged = self.place(arrangement.arranged())
        _, nll_T = self.token_loss(self.states(batch, arranged).hidden_TD, arranged.main.target_T, 0.0)
        return by_row(nll_T, arranged.main, "nll"), by_row(torch.ones_like(nll_T), arranged.main, "nll")

    def document_means(self, batch: Batch) -> Tensor:
        """Return the mean encoder state of each row's source document over its tokens, before fusion: (B, D) float32.

        As ACROSS' contrast pools documents (models/objectives/across.py). Call it in eval mode. `batch` is on the host,
        and no row of it is a placeholder.
        """
        assert not self.training, "document_means() under dropout: call eval() first"
        arrangement = self.arrangement(batch)
        arrangement.encode("document", "source", range(len(batch)))
        arranged = self.place(arrangement.arranged())
        return arranged.encoded["document"].means(self.encode(arranged)).float()

    @torch.no_grad()
    def generate(
        self, batch: Batch, decoding: Decoding, numbers: Sequence[int] | None = None, reads: Text = "source"
    ) -> Tensor:
        """Summaries of the source documents, (B, at most max_new_tokens) int64, ending with the end token, padded.

        A document with its images is encoded once for all rows that it has in the batch, whatever their target
        languages, and all of them read it where it lies (models/backbones/memory.py). Each row begins with its own
        start token, which is not part of what is returned; a placeholder's row is all padding. numbers: what a row's
        random numbers follow from, where some are drawn (by default its place).
        reads: in place of the documents, as of `writing`.

        Call it in eval mode. `batch` is on the host.
        """
        assert not self.training, "generate() under dropout: call eval() first"
        rows = real_rows(batch)
        if not rows:
            return torch.full((len(batch), 1), self.pad_id)
        arrangement = self.writing(batch, "generate", reads, rows)
        arranged = self.place(arrangement.arranged())
        keys = arranged.main.cross.keys
        memory_TD = self.read(batch, arranged).memory_TD
        memory = Memory.of(
            keys.pad(memory_TD),
            keys.pad(torch.ones_like(arranged.seen_T1))[:, :, 0],
            arranged.main.parts["generate"].memory_B[rows].tolist(),
            decoding.num_beams,
        )
        # transformers wants encoder states for how many rows there are: their decoder reads the memory instead.
        states_B1D = memory.states_KMD.new_zeros(len(rows), 1, self.hidden_size)
        written_BN: Tensor = self.backbone.generator(memory).generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states_B1D),
            attention_mask=states_B1D.new_ones(len(rows), 1, dtype=torch.int64),
            generation_config=GenerationConfig(
                num_beams=decoding.num_beams,
                length_penalty=decoding.length_penalty,
                no_repeat_ngram_size=decoding.no_repeat_ngram_size,
                max_new_tokens=decoding.max_new_tokens,
                do_sample=False,
                pad_token_id=self.pad_id,
                eos_token_id=self.eos_id,
                # As a list, one token a row. As `decoder_input_ids`, transformers would put its own start before them.
                decoder_start_token_id=batch.start_B[rows].tolist(),
            ),
            logits_processor=logits_processors(decoding, [row if numbers is None else numbers[row] for row in rows]),
        )[:, 1:]
        # transformers takes a padding token of number 0 for none, and fills what beams leave open with end tokens.
        is_end_BN = written_BN == self.eos_id
        written_BN = written_BN.masked_fill(is_end_BN.cumsum(dim=1) > is_end_BN.long(), self.pad_id)
        ids_BN = written_BN.new_full((len(batch), written_BN.shape[1]), self.pad_id)
        ids_BN[rows] = written_BN
        return ids_BN


def real_rows(batch: Batch) -> list[int]:
    """The rows that are no placeholders."""
    rows: list[int] = (batch.weight_B > 0).nonzero()[:, 0].tolist()
    return rows


def by_row(value_T: Tensor, stream: DecoderStream, part: str) -> Tensor:
    """Sums over the target tokens of each row's summary in `part` of the stream, (B,) float32; 0 where it has none."""
    text_B = stream.parts[part].text_B
    sums = value_T.new_zeros(stream.texts, dtype=torch.float32).index_add(0, stream.text_T, value_T.float())
    return torch.where(text_B >= 0, sums[text_B.clamp(min=0)], 0.0)
