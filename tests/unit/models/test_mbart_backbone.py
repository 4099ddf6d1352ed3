"""mBART: the checkpoint's weights and head, rows for new languages, the same states as transformers' own forward."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GenerationConfig, MBartConfig, MBartForConditionalGeneration, T5Config
from transformers.modeling_outputs import BaseModelOutput

from models.backbones.build import build_backbone
from models.backbones.checkpoint_config import max_length
from models.backbones.mbart import MBartBackbone
from models.config import TextConfig
from models.ragged import cross_layout, self_layout
from shards.errors import InputError

PAD_ID, EOS_ID, WORDS = 1, 2, 50  # mBART's own
SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 20,
    "scale_embedding": True,
}
RANDOM = TextConfig(
    architecture="mbart",
    d_model=16,
    d_ff=24,
    num_heads=4,
    num_layers=2,
    num_decoder_layers=3,
    max_position_embeddings=20,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A tiny mBART directory as transformers saves it, but for a head that is not the embeddings."""
    torch.manual_seed(0)
    model = MBartForConditionalGeneration(MBartConfig(vocab_size=WORDS, **SIZES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        model.final_logits_bias.normal_()
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["lm_head.weight"] = torch.randn(WORDS, 16) * 3
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path, state


def load(where: Path, vocab_size: int = WORDS, related: dict[int, tuple[int, ...]] | None = None) -> MBartBackbone:
    backbone = build_backbone(TextConfig(pretrained=str(where)), vocab_size, PAD_ID, EOS_ID, related or {})
    assert isinstance(backbone, MBartBackbone)
    return backbone.eval()


def assert_loaded(backbone: MBartBackbone, state: dict[str, Tensor], head: str = "lm_head.weight") -> None:
    torch.testing.assert_close(backbone.head.weight.detach(), state[head])
    torch.testing.assert_close(backbone.head.bias.detach(), state["final_logits_bias"][0])
    names = {name for name in backbone.model.state_dict() if "embed_tokens" not in name}
    for name in names:
        torch.testing.assert_close(backbone.model.state_dict()[name], state[f"model.{name}"])
    for stack in (backbone.model.encoder, backbone.model.decoder):
        assert stack.embed_tokens.weight is backbone.model.shared.weight
    assert backbone.head.weight is not backbone.model.shared.weight


def test_a_checkpoint_of_transformers(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    assert_loaded(load(checkpoint[0]), checkpoint[1])


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_torch_checkpoint(checkpoint: tuple[Path, dict[str, Tensor]], is_zip: bool) -> None:
    where, state = checkpoint
    (where / "model.safetensors").unlink()
    torch.save(state, where / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    assert_loaded(load(where), state)


def test_a_sharded_checkpoint(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    where, state = checkpoint
    (where / "model.safetensors").unlink()
    files = ("a.safetensors", "b.safetensors")
    weight_map = {name: files[i % 2] for i, name in enumerate(sorted(state))}
    for file in files:
        part = {name: state[name].clone() for name, of in weight_map.items() if of == file}
        save_file(part, where / file, metadata={"format": "pt"})
    (where / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert_loaded(load(where), state)
    (where / weight_map["lm_head.weight"]).unlink()
    with pytest.raises(InputError, match=r"network\.text\.pretrained"):
        load(where)


def test_a_tied_checkpoint_gives_its_embeddings(tmp_path: Path) -> None:
    model = MBartForConditionalGeneration(MBartConfig(vocab_size=WORDS, **SIZES))
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in state
    assert_loaded(load(tmp_path), state, "model.shared.weight")
    del state["final_logits_bias"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert not load(tmp_path).head.bias.any()


def test_embeddings_that_are_shared_though_not_called_tied(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    where, state = checkpoint
    config = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    names = ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"]
    copies = {name: state["model.shared.weight"].clone() for name in names}
    save_file({**state, **copies}, where / "model.safetensors", metadata={"format": "pt"})
    assert_loaded(load(where), state)
    copies[names[0]] += 1
    save_file({**state, **copies}, where / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="has different embeddings in encoder and decoder"):
        load(where)


def test_a_half_precision_checkpoint_is_trained_in_float32(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    where, state = checkpoint
    halves = {name: tensor.bfloat16() for name, tensor in state.items()}
    save_file(halves, where / "model.safetensors", metadata={"format": "pt"})
    backbone = load(where, WORDS + 1, {WORDS: (4, 5)})
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(backbone.head.weight[7].detach(), halves["lm_head.weight"][7].float())


def test_rows_of_new_languages_are_the_mean_of_their_related(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    where, state = checkpoint
    backbone = load(where, WORDS + 2, {WORDS: (40, 41, 45), WORDS + 1: (42,)})
    assert backbone.vocab_size == backbone.model.config.vocab_size == len(backbone.head.weight) == WORDS + 2
    for rows, name in (
        (backbone.model.shared.weight, "model.shared.weight"),
        (backbone.head.weight, "lm_head.weight"),
        (backbone.head.bias, "final_logits_bias"),
    ):
        stored = state[name][0] if name == "final_logits_bias" else state[name]
        torch.testing.assert_close(rows[:WORDS].detach(), stored)
        torch.testing.assert_close(rows[WORDS].detach(), stored[[40, 41, 45]].mean(dim=0))
        torch.testing.assert_close(rows[WORDS + 1].detach(), stored[42])
    for stack in (backbone.model.encoder, backbone.model.decoder):
        assert stack.embed_tokens.weight is backbone.model.shared.weight
    assert len({id(p) for p in backbone.parameters()}) == len(list(backbone.parameters()))


def test_new_tokens_in_place_of_padding_rows(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    """A checkpoint of 50 rows for 47 words: three new tokens overwrite padding, a fourth has no row yet."""
    where, state = checkpoint
    related = {WORDS - 3 + i: (40, 41 + i) for i in range(4)}
    backbone = load(where, WORDS + 1, related)
    for rows, stored in (
        (backbone.model.shared.weight, state["model.shared.weight"]),
        (backbone.head.weight, state["lm_head.weight"]),
        (backbone.head.bias, state["final_logits_bias"][0]),
    ):
        assert len(rows) == WORDS + 1
        torch.testing.assert_close(rows[: WORDS - 3].detach(), stored[: WORDS - 3])
        for new, of in related.items():
            torch.testing.assert_close(rows[new].detach(), stored[list(of)].mean(dim=0))
    within = load(where, WORDS - 2, {WORDS - 3: (40, 41)})
    assert within.vocab_size == WORDS
    torch.testing.assert_close(within.head.weight[WORDS - 3].detach(), state["lm_head.weight"][[40, 41]].mean(dim=0))
    torch.testing.assert_close(within.head.weight[WORDS - 2 :].detach(), state["lm_head.weight"][WORDS - 2 :])


def test_rows_that_a_checkpoint_has_are_kept(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    where, state = checkpoint
    assert_loaded(load(where, WORDS - 3), state)


@pytest.mark.parametrize("related", [{}, {WORDS: (40,)}, {WORDS: (40,), WORDS + 1: (WORDS,)}])
def test_another_tokenizer_is_refused(
    checkpoint: tuple[Path, dict[str, Tensor]], related: dict[int, tuple[int, ...]]
) -> None:
    with pytest.raises(InputError, match=r"has 50 words, the tokenizer 52: set corpus\.tokenizer="):
        load(checkpoint[0], WORDS + 2, related)


def test_a_tokenizer_with_other_special_ids_is_refused(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    with pytest.raises(InputError, match="has pad_token_id 1, the tokenizer 0"):
        build_backbone(TextConfig(pretrained=str(checkpoint[0])), WORDS, 0, 1)


def test_an_incomplete_checkpoint(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    """transformers would start the missing tensors at random."""
    where, state = checkpoint
    del state["model.decoder.layers.1.encoder_attn.k_proj.weight"]
    save_file(state, where / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 tensors of mBART, decoder\.layers\.1\.encoder_attn"):
        load(where)


def test_other_architectures_are_refused_in_one_line(
    tmp_path: Path, checkpoint: tuple[Path, dict[str, Tensor]]
) -> None:
    T5Config().save_pretrained(tmp_path / "t5")
    with pytest.raises(InputError, match="is of model type 't5'; supported are mt5 and mbart") as error:
        load(tmp_path / "t5")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"architecture is mt5, but .* holds an mbart model"):
        build_backbone(TextConfig(pretrained=str(checkpoint[0]), architecture="mt5"), WORDS, PAD_ID, EOS_ID)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "no config.json to be had from"), ("{", "is not JSON"), ("[]", "is no mapping")]
)
def test_a_directory_that_is_no_checkpoint(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such directory"):
        load(tmp_path / "absent")


def test_the_longest_text(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    assert (
        max_length(TextConfig(pretrained=str(checkpoint[0])))
        == load(checkpoint[0]).model.config.max_position_embeddings
        == 20
    )


LENGTHS, TARGETS, READS = [7, 3, 20, 1, 5], [4, 6, 1, 5, 2, 3], [1, 0, 4, 0, 2, 3]


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@torch.no_grad()
def test_states_equal_those_of_transformers(checkpoint: tuple[Path, dict[str, Tensor]], activation: str) -> None:
    """Texts of different lengths, several in a row here and padded there, up to the last position."""
    where, _ = checkpoint
    config = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps({**config, "activation_function": activation}))
    theirs = MBartForConditionalGeneration.from_pretrained(where).eval()
    ours = load(where)
    random = torch.Generator().manual_seed(1)
    texts, targets = (
        [torch.randint(3, WORDS, (n,), generator=random) for n in lengths] for lengths in (LENGTHS, TARGETS)
    )
    on = torch.device("cpu"), torch.float32
    memory_SD = ours.encode(torch.cat(texts), self_layout(LENGTHS, causal=False).to(*on))
    hidden_TD = ours.decode(
        torch.cat(targets),
        self_layout(TARGETS, causal=True).to(*on),
        memory_SD,
        cross_layout(TARGETS, READS, LENGTHS).to(*on),
    )
    pad = torch.nn.utils.rnn.pad_sequence
    ids_BM = pad(texts, batch_first=True, padding_value=PAD_ID)
    mask_BM = torch.arange(ids_BM.shape[1]) < torch.tensor(LENGTHS)[:, None]
    memory_BMD = theirs.model.encoder(input_ids=ids_BM, attention_mask=mask_BM.long()).last_hidden_state
    torch.testing.assert_close(memory_SD, memory_BMD[mask_BM], atol=1e-5, rtol=1e-5)
    out = theirs(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory_BMD[READS]),
        attention_mask=mask_BM[READS].long(),
        decoder_input_ids=pad(targets, batch_first=True, padding_value=PAD_ID),
        output_hidden_states=True,
    )
    real_QN = torch.arange(max(TARGETS)) < torch.tensor(TARGETS)[:, None]
    torch.testing.assert_close(hidden_TD, out.decoder_hidden_states[-1][real_QN], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.head(hidden_TD), out.logits[real_QN], atol=1e-4, rtol=1e-5)


def test_gradients_reach_everything_but_the_padding() -> None:
    torch.manual_seed(0)
    ours = build_backbone(RANDOM, WORDS, PAD_ID, EOS_ID)
    on = torch.device("cpu"), torch.float32
    ids = torch.randint(3, WORDS, (9,))
    memory = ours.encode(ids, self_layout([4, 5], causal=False).to(*on))
    hidden = ours.decode(
        ids, self_layout([4, 5], causal=True).to(*on), memory, cross_layout([4, 5], [0, 1], [4, 5]).to(*on)
    )
    ours.head(hidden).logsumexp(dim=-1).sum().backward()
    assert [name for name, parameter in ours.named_parameters() if parameter.grad is None] == []


def test_dropouts_are_the_recipes(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    config = TextConfig(pretrained=str(checkpoint[0]), dropout=0.2, attention_dropout=0.05)
    model = build_backbone(config, WORDS, PAD_ID, EOS_ID).model
    for layer in (*model.encoder.layers, *model.decoder.layers):
        assert (layer.dropout, layer.self_attn.dropout, layer.activation_dropout) == (0.2, 0.05, 0.0)
    random = build_backbone(RANDOM.model_copy(update={"dropout": 0.3}), WORDS, PAD_ID, EOS_ID).model
    assert random.decoder.layers[0].encoder_attn.dropout == 0.3
    mt5 = TextConfig(d_model=16, d_ff=24, d_kv=4, num_heads=4, num_layers=1, dropout=0.2, attention_dropout=0.05)
    block = build_backbone(mt5, WORDS, 0, 1).model.decoder.block[0]
    assert [part.dropout for part in (block.layer[0].SelfAttention, block.layer[1].EncDecAttention)] == [0.05, 0.05]
    assert block.layer[2].DenseReluDense.dropout.p == 0.2


@torch.no_grad()
def test_generation_has_a_start_token_a_row(checkpoint: tuple[Path, dict[str, Tensor]]) -> None:
    """Greedy, against a loop by hand; the decoder is deeper than the encoder, which sizes transformers' cache."""
    where, _ = checkpoint
    config = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps({**config, "forced_eos_token_id": 7}))
    ours = load(where)
    on = torch.device("cpu"), torch.float32
    memory = ours.encode(torch.randint(3, WORDS, (12,)), self_layout([6, 6], causal=False).to(*on)).view(2, 6, -1)
    starts = [44, 45]
    settings = GenerationConfig(
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=starts,
    )
    ids_BN = ours.generator().generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory), generation_config=settings
    )
    for row, start in enumerate(starts):
        words = [start]
        while len(words) < 7 and words[-1] != EOS_ID:
            n = [len(words)]
            layouts = self_layout(n, causal=True).to(*on), memory[row], cross_layout(n, [0], [6]).to(*on)
            words.append(int(ours.head(ours.decode(torch.tensor(words), *layouts)[-1]).argmax()))
        assert ids_BN[row].tolist() == words + [PAD_ID] * (ids_BN.shape[1] - len(words))


def test_a_copying_start_writes_the_word_that_it_looks_at() -> None:
    """And without it does not: whatever the word before it was."""
    memory = torch.arange(10, 30)
    before = torch.arange(30, 50)
    layout, cross = (
        of.to(torch.device("cpu"), torch.float32)
        for of in (self_layout([1] * 20, causal=True), cross_layout([1] * 20, range(20), [1] * 20))
    )
    written = []
    for copying in (True, False):
        torch.manual_seed(0)
        config = RANDOM.model_copy(
            update={"d_model": 64, "tie_word_embeddings": True, "copying_start": copying, "num_decoder_layers": 2}
        )
        backbone = build_backbone(config, WORDS, PAD_ID, EOS_ID).eval()
        states = torch.nn.functional.layer_norm(backbone.model.shared(memory), (64,))
        written.append(backbone.head(backbone.decode(before, layout, states, cross)).argmax(dim=-1))
    copied, other = written
    assert torch.equal(copied, memory)
    assert not torch.equal(other, memory)
