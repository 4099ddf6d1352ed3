"""Build the mBART backbone (mBART-50): transformers' encoder and decoder, with a head that the network owns.

Shape suffixes as in models/ragged.py; W words, F the inner width of a feed-forward layer. mBART ties its head to its
embeddings and adds a bias to the logits. Ours is a Linear of its own (the paper's W_o, b_o), which starts from both;
`tie_word_embeddings` keeps its weight the embeddings of a random backbone.
"""

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationConfig, MBartConfig, MBartForConditionalGeneration, MBartModel

from models.attention import attend
from models.backbones.base import Backbone, add_update
from models.backbones.checkpoint import load, stored_tensor
from models.backbones.checkpoint_config import MBART_POSITIONS
from models.backbones.memory import Memory, MemoryAttention, with_children
from models.config import TextConfig
from models.dropout import dropout
from models.norms import layer_norm
from models.ragged import Layout
from shards.errors import InputError

#: Names of the head in transformers' checkpoints.
_HEAD, _BIAS = "lm_head.weight", "final_logits_bias"


class MBartBackbone(Backbone):
    """Run mBART. The encoder's texts begin with their language's code (shards/text/tokenizer.py).

    vocab_size: words of the tokenizer. The rows of new tokens, those of `related_ids`, start as the mean of the rows
    that it names for them, in the embeddings and in the head, whether a checkpoint lacks them or has padding in their
    place. All other rows stay as they are, and a checkpoint lacks none of them (`check_tokenizer` in
    models/backbones/checkpoint_config.py).
    """

    def __init__(
        self,
        config: TextConfig,
        vocab_size: int,
        pad_id: int,
        eos_id: int,
        related_ids: Mapping[int, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        where = config.pretrained
        self.model = (
            _random_model(config, vocab_size, pad_id, eos_id) if where is None else _pretrained_model(config, where)
        )
        settings = self.model.config
        # Beam search reads these from the configuration, which may force an end token that this tokenizer lacks.
        settings.pad_token_id, settings.eos_token_id, settings.forced_eos_token_id = pad_id, eos_id, None
        self.hidden_size = settings.d_model
        weight_WD = bias_W = None
        with torch.no_grad():
            if where is None:
                # Decoder states are layer norm's, so this makes logits of unit variance: a loss near log W. Scaled
                # embeddings of this size have unit variance, too.
                self.model.shared.weight.normal_(std=self.hidden_size**-0.5)
                if config.copying_start:
                    _start_copying(self.model.decoder)
            else:
                rows = settings.vocab_size
                stored_WD = stored_tensor(where, _HEAD, (rows, self.hidden_size))
                stored_1W = stored_tensor(where, _BIAS, (1, rows))
                weight_WD = self.model.shared.weight.clone() if stored_WD is None else stored_WD.float()
                bias_W = torch.zeros(rows) if stored_1W is None else stored_1W.float().flatten()
                if related_ids:
                    weight_WD, bias_W, embedding_WD = (
                        _with_new(tensor, vocab_size, related_ids)
                        for tensor in (weight_WD, bias_W, self.model.shared.weight)
                    )
                    if vocab_size > rows:
                        self.model.resize_token_embeddings(vocab_size, mean_resizing=False)
                    self.model.shared.weight.copy_(embedding_WD)
                assert settings.vocab_size >= vocab_size, "another tokenizer's: build_backbone refuses it"
            self.vocab_size = settings.vocab_size
            self.head = nn.Linear(self.hidden_size, self.vocab_size, bias=True)
            if config.tie_word_embeddings:
                self.head.weight = self.model.shared.weight
            if weight_WD is None or bias_W is None:
                self.head.weight.normal_(std=self.hidden_size**-0.5)
                self.head.bias.zero_()
            else:
                self.head.weight.copy_(weight_WD)
                self.head.bias.copy_(bias_W)

    def _run(self, stack: Any, x_TD: Tensor, layout: Layout, memory: tuple[()] | tuple[Tensor, Layout]) -> Tensor:
        assert layout.position_T is not None
        positions = stack.embed_positions
        # Texts share rows, so a token's position is its place in its own text.
        position_TD = F.embedding(layout.position_T + positions.offset, positions.weight)
        x_TD = layer_norm(x_TD + position_TD, stack.layernorm_embedding)
        x_TD = dropout(x_TD, stack.dropout, self.training)
        for layer in stack.layers:
            x_TD = self.runner(_layer, layer, x_TD, layout, *memory)
        return layer_norm(x_TD, stack.layer_norm)

    def generator(self, memory: Memory | None = None) -> MBartForConditionalGeneration:
        """Return transformers' generation loop around our modules; made anew so that no parameter is listed twice."""
        config = copy.deepcopy(self.model.config)
        # generate() sizes the decoder's cache by `num_hidden_layers`, which is the encoder's depth.
        config.encoder_layers = config.decoder_layers
        with torch.device("meta"):
            generator = MBartForConditionalGeneration(config)
        generator.lm_head = self.head
        generator.model = self.model
        if memory is not None:
            generator.model = with_children(self.model, {"decoder": _reading(self.model.decoder, memory)})
        # The head has its own bias; transformers adds this one as well.
        generator.final_logits_bias = torch.zeros(1, 1, device=self.head.bias.device, dtype=self.head.bias.dtype)
        # The checkpoint's own may hold forced tokens or beams, which would fill what ours leaves open.
        generator.generation_config = GenerationConfig()
        return generator.eval()

    def stored_tensors(self) -> dict[str, Tensor]:
        """Return the weights as MBartForConditionalGeneration stores them; all of ours have a place in it."""
        tied = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items() if name not in tied}
        return {**state, **self.stored_head(_HEAD), _BIAS: self.head.bias.detach()[None]}


def _reading(decoder: nn.Module, memory: Memory) -> nn.Module:
    """Return transformers' decoder with our cross-attention."""
    layers = []
    for layer in cast(Any, decoder).layers:
        theirs = layer.encoder_attn
        ours = MemoryAttention(
            memory,
            query=theirs.q_proj,
            key=theirs.k_proj,
            value=theirs.v_proj,
            output=theirs.out_proj,
            heads=theirs.num_heads,
            scale=theirs.scaling,
            results=2,
        )
        layers.append(with_children(layer, {"encoder_attn": ours}))
    return with_children(decoder, {"layers": nn.ModuleList(layers)})


def _layer(
    layer: Any, x_TD: Tensor, layout: Layout, memory_SD: Tensor | None = None, cross: Layout | None = None
) -> Tensor:
    """Run one MBartEncoderLayer or MBartDecoderLayer, each part on the normed sum so far (pre-norm)."""
    states_TD = layer_norm(x_TD, layer.self_attn_layer_norm)
    x_TD = add_update(x_TD, _attention(layer.self_attn, states_TD, states_TD, layout), layer.dropout, layer.training)
    if memory_SD is not None:
        assert cross is not None
        states_TD = layer_norm(x_TD, layer.encoder_attn_layer_norm)
        x_TD = add_update(
            x_TD, _attention(layer.encoder_attn, states_TD, memory_SD, cross), layer.dropout, layer.training
        )
    inner_TF = layer.activation_fn(layer.fc1(layer_norm(x_TD, layer.final_layer_norm)))
    inner_TF = dropout(inner_TF, layer.activation_dropout, layer.training)
    return add_update(x_TD, layer.fc2(inner_TF), layer.dropout, layer.training)


def _attention(attention: Any, query_TD: Tensor, key_SD: Tensor, layout: Layout) -> Tensor:
    mixed_TD = attend(
        attention.q_proj(query_TD),
        attention.k_proj(key_SD),
        attention.v_proj(key_SD),
        layout,
        heads=attention.num_heads,
        scale=attention.scaling,
        dropout=attention.dropout if attention.training else 0.0,
    )
    projected: Tensor = attention.out_proj(mixed_TD)
    return projected


class _MBartModel(MBartModel):  # type: ignore[misc]
    """MBartModel that does not warn of a missing head, which is read from the file."""

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"lm_head\.weight", r"final_logits_bias"]


def _random_model(config: TextConfig, vocab_size: int, pad_id: int, eos_id: int) -> MBartModel:
    settings = MBartConfig(
        vocab_size=vocab_size,
        d_model=config.d_model,
        encoder_ffn_dim=config.d_ff,
        decoder_ffn_dim=config.d_ff,
        encoder_attention_heads=config.num_heads,
        decoder_attention_heads=config.num_heads,
        encoder_layers=config.num_layers,
        decoder_layers=config.num_decoder_layers or config.num_layers,
        max_position_embeddings=config.max_position_embeddings or MBART_POSITIONS,
        scale_embedding=True,  # mBART-50's
        pad_token_id=pad_id,
        eos_token_id=eos_id,
        **_dropouts(config),
    )
    settings._attn_implementation = "sdpa"
    return MBartModel(settings)


def _start_copying(decoder: Any) -> None:
    """Make the cross-attention add what it looks at, twice the size of a word's own embedding, and nothing else.

    A head that is the embeddings then writes the words that it looks at: what is left to learn is where to look. The
    word before enters small and negative, because a head that is the embeddings would write it again.
    """
    decoder.layernorm_embedding.weight.fill_(-0.3)
    for layer in decoder.layers:
        attention = layer.encoder_attn
        for linear, gain in ((attention.v_proj, 1.0), (attention.out_proj, 2.0)):
            linear.weight.zero_().fill_diagonal_(gain)
            linear.bias.zero_()


def _pretrained_model(config: TextConfig, where: str) -> MBartModel:
    # Said of a model whose head is its own, "not tied" would untie encoder and decoder as well.
    model = load(_MBartModel, where, "mBART", tie_word_embeddings=True, **_dropouts(config))
    if not all(stack.embed_tokens.weight is model.shared.weight for stack in (model.encoder, model.decoder)):
        raise InputError(
            f"network.text.pretrained: {where!r} has different embeddings in encoder and decoder, which mBART-50 "
            "shares: give the directory of an mBART-50 checkpoint"
        )
    return model


def _dropouts(config: TextConfig) -> dict[str, float]:
    """Return all dropout rates of an MBartConfig: a checkpoint's own belong to another training."""
    return {
        "dropout": config.dropout,
        "attention_dropout": config.attention_rate,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
    }


def _with_new(rows: Tensor, vocab_size: int, related_ids: Mapping[int, Sequence[int]]) -> Tensor:
    """Return a copy of `rows` (W, ...), at least `vocab_size` long; a new row is the mean of its related ones."""
    missing = max(vocab_size - len(rows), 0)
    extended = torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:])))
    for new, related in related_ids.items():
        extended[new] = rows[list(related)].mean(dim=0)
    return extended
