"""Build the mT5 backbone: transformers' encoder and decoder, with a head that the network owns.

Shape suffixes as in models/ragged.py; F the inner width of a feed-forward layer. transformers 5 ties mT5's head to its
embeddings whatever the configuration says, and does not scale the tied logits, while the published checkpoints hold a
head of their own (up to 113 away from the embeddings). The head is therefore ours: a Linear with a bias (the paper's
W_o, b_o), its weight read from the checkpoint's file rather than from the tied model.
"""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, MT5Config, MT5ForConditionalGeneration, MT5Model
from transformers.activations import NewGELUActivation

from models.attention import attend, score_bias
from models.backbones.base import Backbone, add_update
from models.backbones.checkpoint import load, stored_tensor
from models.backbones.memory import Memory, MemoryAttention, with_children
from models.config import TextConfig
from models.dropout import dropout
from models.norms import rms_norm
from models.ragged import Layout

#: Names of the head in checkpoints. transformers' mT5 has no bias: only what we export does.
_HEAD, _BIAS = "lm_head.weight", "lm_head.bias"


class MT5Backbone(Backbone):
    """Run mT5.

    vocab_size: words of the tokenizer. A checkpoint may have more rows (mT5 has 250,112 for 250,100 words)
    and keeps them all; it has no fewer (`check_tokenizer` in models/backbones/checkpoint_config.py).
    start_ids: tokens that summaries begin with, whose embeddings `config.reset_start_tokens` sets. Rows of the head
    stay: no summary contains one.
    """

    def __init__(
        self, config: TextConfig, vocab_size: int, pad_id: int, eos_id: int, start_ids: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.model = (
            _random_model(config, vocab_size, pad_id, eos_id)
            if config.pretrained is None
            else _pretrained_model(config, vocab_size)
        )
        # Beam search and the causal mask read these from the configuration.
        self.model.config.pad_token_id, self.model.config.eos_token_id = pad_id, eos_id
        for stack in (self.model.encoder, self.model.decoder):
            for block in stack.block:
                for inner in block.layer[:-1]:
                    attention = inner.SelfAttention if hasattr(inner, "SelfAttention") else inner.EncDecAttention
                    attention.dropout = config.attention_rate  # which mT5's configuration cannot say
        self.hidden_size, self.output_dropout = self.model.config.d_model, config.dropout
        self.vocab_size = self.model.config.vocab_size
        self.head = nn.Linear(self.hidden_size, self.vocab_size, bias=True)
        if config.tie_word_embeddings:
            self.head.weight = self.model.shared.weight
        with torch.no_grad():
            self.head.bias.zero_()
            if config.pretrained is None:
                # Decoder states have unit RMS, so this makes logits of unit variance: a loss near log W.
                self.head.weight.normal_(std=self.hidden_size**-0.5)
                # mT5 draws embeddings with variance 1, for Adafactor, whose steps scale with a tensor's size.
                # AdamW's do not, and would take thousands of steps to move them.
                self.model.shared.weight.normal_(std=self.hidden_size**-0.5)
            else:
                stored_WD = stored_tensor(config.pretrained, _HEAD, (self.vocab_size, self.hidden_size))
                stored_W = stored_tensor(config.pretrained, _BIAS, (self.vocab_size,))
                self.head.weight.copy_(self.model.shared.weight if stored_WD is None else stored_WD)
                if stored_W is not None:
                    self.head.bias.copy_(stored_W)
                if config.reset_start_tokens is not None:
                    self._reset(list(start_ids), pad_id, config.reset_start_tokens)

    def _reset(self, start_ids: list[int], pad_id: int, to: Literal["pad", "random"]) -> None:
        """Set the embeddings of the start tokens as CrossSum's `reinitialize_langid_embeddings` does (bos, random)."""
        rows_WD = self.model.shared.weight
        rows_WD[start_ids] = rows_WD[pad_id].clone() if to == "pad" else torch.randn(len(start_ids), self.hidden_size)

    def encode_embedded(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Return H_T^{N_e} (T, D), after the dropout behind the last norm, which `decode` leaves to its callers."""
        return dropout(super().encode_embedded(x_TD, layout), self.model.encoder.config.dropout_rate, self.training)

    def _run(self, stack: Any, x_TD: Tensor, layout: Layout, memory: tuple[()] | tuple[Tensor, Layout]) -> Tensor:
        p, training = stack.config.dropout_rate, self.training
        x_TD = dropout(x_TD, p, training)
        length = layout.queries.length
        bias = score_bias(stack.block[0].layer[0].SelfAttention.compute_bias(length, length)[0], layout)
        for block in stack.block:
            x_TD = self.runner(_layer, block, x_TD, layout, bias, *memory)
        norm = stack.final_layer_norm
        return rms_norm(x_TD, norm.weight, norm.variance_epsilon)

    def generator(self, memory: Memory | None = None) -> MT5ForConditionalGeneration:
        """Return transformers' generation loop around our modules; made anew so that no parameter is listed twice."""
        config = copy.deepcopy(self.model.config)
        # generate() sizes the decoder's cache by `num_layers`, which is the encoder's depth.
        config.num_layers = config.num_decoder_layers
        with torch.device("meta"):
            generator = MT5ForConditionalGeneration(config)
        generator.shared = self.model.shared
        generator.encoder, decoder = self.model.encoder, self.model.decoder
        generator.decoder = decoder if memory is None else _reading(decoder, memory)
        generator.lm_head = self.head
        # The checkpoint's own may hold forced tokens or beams, which would fill what ours leaves open.
        generator.generation_config = GenerationConfig()
        return generator.eval()

    def stored_tensors(self) -> dict[str, Tensor]:
        """Return the weights as MT5ForConditionalGeneration stores them, with the head's bias, which it lacks."""
        tied = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
        state = {name: tensor for name, tensor in self.model.state_dict().items() if name not in tied}
        return {**state, **self.stored_head(_HEAD), _BIAS: self.head.bias.detach()}


def _reading(decoder: nn.Module, memory: Memory) -> nn.Module:
    """Return transformers' decoder with our cross-attention."""
    blocks = []
    for block in cast(Any, decoder).block:
        of_self, of_cross, feed_forward = block.layer
        theirs = of_cross.EncDecAttention
        ours = MemoryAttention(
            memory,
            query=theirs.q,
            key=theirs.k,
            value=theirs.v,
            output=theirs.o,
            heads=theirs.n_heads,
            scale=theirs.scaling,
            results=3,
        )
        of_cross = with_children(of_cross, {"EncDecAttention": ours})
        blocks.append(with_children(block, {"layer": nn.ModuleList([of_self, of_cross, feed_forward])}))
    return with_children(decoder, {"block": nn.ModuleList(blocks)})


def _layer(
    block: Any,
    x_TD: Tensor,
    layout: Layout,
    bias: Tensor,
    memory_SD: Tensor | None = None,
    cross: Layout | None = None,
) -> Tensor:
    """Run one MT5Block: self-attention, cross-attention in a decoder, feed-forward, each on the normed sum so far."""
    inner = block.layer[0]
    states_TD = rms_norm(x_TD, inner.layer_norm.weight, inner.layer_norm.variance_epsilon)
    x_TD = add_update(
        x_TD, _attention(inner.SelfAttention, states_TD, states_TD, layout, bias), inner.dropout.p, inner.training
    )
    if memory_SD is not None:
        assert cross is not None
        inner = block.layer[1]
        states_TD = rms_norm(x_TD, inner.layer_norm.weight, inner.layer_norm.variance_epsilon)
        x_TD = add_update(
            x_TD, _attention(inner.EncDecAttention, states_TD, memory_SD, cross, None), inner.dropout.p, inner.training
        )
    inner = block.layer[-1]
    states_TD = rms_norm(x_TD, inner.layer_norm.weight, inner.layer_norm.variance_epsilon)
    return add_update(x_TD, _feed_forward(inner.DenseReluDense, states_TD), inner.dropout.p, inner.training)


def _attention(attention: Any, query_TD: Tensor, key_SD: Tensor, layout: Layout, bias: Tensor | None) -> Tensor:
    """Attend as T5 does: scores are not scaled."""
    mixed_TE = attend(
        attention.q(query_TD),
        attention.k(key_SD),
        attention.v(key_SD),
        layout,
        heads=attention.n_heads,
        scale=attention.scaling,
        bias=bias,
        dropout=attention.dropout if attention.training else 0.0,
    )
    projected: Tensor = attention.o(mixed_TE)
    return projected


def _feed_forward(dense: Any, x_TD: Tensor) -> Tensor:
    if hasattr(dense, "wi_0"):
        inner_TF = _activate(dense.act, dense.wi_0(x_TD)) * dense.wi_1(x_TD)
    else:
        inner_TF = _activate(dense.act, dense.wi(x_TD))
    projected: Tensor = dense.wo(dropout(inner_TF, dense.dropout.p, dense.training))
    return projected


def _activate(act: nn.Module, x: Tensor) -> Tensor:
    # transformers writes the same function as eight passes over memory.
    return F.gelu(x, approximate="tanh") if isinstance(act, NewGELUActivation) else act(x)


class _MT5Model(MT5Model):  # type: ignore[misc]
    """MT5Model that does not warn of a missing head, which is read from the file."""

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [
        *MT5Model._keys_to_ignore_on_load_unexpected,
        r"lm_head\.(weight|bias)",
    ]


def _random_model(config: TextConfig, vocab_size: int, pad_id: int, eos_id: int) -> MT5Model:
    optional = {
        "relative_attention_num_buckets": config.relative_attention_num_buckets,
        "relative_attention_max_distance": config.relative_attention_max_distance,
        "feed_forward_proj": config.feed_forward_proj,
        "num_decoder_layers": config.num_decoder_layers,
    }
    hf_config = MT5Config(
        vocab_size=vocab_size,
        d_model=config.d_model,
        d_ff=config.d_ff,
        d_kv=config.d_kv,
        num_heads=config.num_heads,
        num_layers=config.num_layers,
        dropout_rate=config.dropout,
        pad_token_id=pad_id,
        eos_token_id=eos_id,
        decoder_start_token_id=pad_id,
        **{name: value for name, value in optional.items() if value is not None},
    )
    hf_config._attn_implementation = "sdpa"
    return MT5Model(hf_config)


def _pretrained_model(config: TextConfig, vocab_size: int) -> MT5Model:
    assert config.pretrained is not None
    model = load(_MT5Model, config.pretrained, "mT5", dropout_rate=config.dropout)
    assert model.config.vocab_size >= vocab_size, "another tokenizer's checkpoint: build_backbone refuses it"
    return model
