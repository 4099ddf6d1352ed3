"""What we export, stock transformers loads: same states, same head, same summaries. And we load it back whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, MBartForConditionalGeneration, MT5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from models.config import NetworkConfig, TextConfig
from models.network import Network
from models.ragged import cross_layout, self_layout
from models.synthetic import tiny_config
from shards.errors import InputError
from shards.text.tokenizer import Tokenizer, open_tokenizer
from tests.support.pretrained import save_mbart50, save_mt5
from trainer.export.model import export_text

LENGTHS, TARGETS, READS = [7, 2, 11], [4, 6, 1], [1, 0, 2]
STOCK = {"mt5": MT5ForConditionalGeneration, "mbart": MBartForConditionalGeneration}


def config_of(architecture: str, **text: object) -> NetworkConfig:
    sizes = {"d_model": 16, "d_ff": 24, "num_heads": 4, "num_layers": 3, "num_decoder_layers": 2}
    own = {"d_kv": 4} if architecture == "mt5" else {"max_position_embeddings": 20}
    text = text or {"architecture": architecture, **sizes, **own}
    return tiny_config().model_copy(update={"text": TextConfig(**text)})


def network_of(config: NetworkConfig, tokenizer: Tokenizer) -> Network:
    facts = tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id
    return Network(config, *facts, related_ids=tokenizer.related_ids, marks_texts=tokenizer.marks_texts).eval()


@pytest.fixture(params=["mt5", "mbart", "mt5 tied", "mbart tied"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Network, Tokenizer, Path]:
    """A network that training has moved away from what any architecture starts with."""
    kind, _, tied = request.param.partition(" ")
    tokenizer = open_tokenizer({"mt5": save_mt5, "mbart": save_mbart50}[kind](tmp_path / "tokenizer"))
    torch.manual_seed(0)
    config = config_of(kind)
    text = config.text.model_copy(update={"tie_word_embeddings": bool(tied)})
    network = network_of(config.model_copy(update={"text": text}), tokenizer)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    export_text(network, tokenizer, tmp_path / "exported")
    return kind, network, tokenizer, tmp_path / "exported"


def padded(texts: list[Tensor], pad_id: int) -> tuple[Tensor, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad_id)
    return ids, torch.arange(ids.shape[1]) < torch.tensor([len(text) for text in texts])[:, None]


@torch.no_grad()
def test_stock_transformers_gives_the_same_states(exported: tuple[str, Network, Tokenizer, Path]) -> None:
    kind, network, tokenizer, where = exported
    stock, report = STOCK[kind].from_pretrained(where, output_loading_info=True)
    assert not report["missing_keys"]
    assert set(report["unexpected_keys"]) == ({"lm_head.bias"} if kind == "mt5" else set())
    stock = stock.eval()
    backbone, words = network.backbone, tokenizer.vocab_size
    texts, targets = ([torch.randint(3, words, (n,)) for n in lengths] for lengths in (LENGTHS, TARGETS))
    on = torch.device("cpu"), torch.float32
    memory_SD = backbone.encode(torch.cat(texts), self_layout(LENGTHS, causal=False).to(*on))
    layouts = self_layout(TARGETS, causal=True).to(*on), memory_SD, cross_layout(TARGETS, READS, LENGTHS).to(*on)
    hidden_TD = backbone.decode(torch.cat(targets), *layouts)

    ids_BM, mask_BM = padded(texts, tokenizer.pad_id)
    memory_BMD = stock.get_encoder()(input_ids=ids_BM, attention_mask=mask_BM.long()).last_hidden_state
    torch.testing.assert_close(memory_SD, memory_BMD[mask_BM], atol=1e-5, rtol=1e-5)
    decoder_ids, real = padded(targets, tokenizer.pad_id)
    out = stock(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory_BMD[READS]),
        attention_mask=mask_BM[READS].long(),
        decoder_input_ids=decoder_ids,
        output_hidden_states=True,
    )
    torch.testing.assert_close(hidden_TD, out.decoder_hidden_states[-1][real], atol=1e-5, rtol=1e-5)
    logits = backbone.head(hidden_TD)
    if kind == "mt5":
        logits = logits - backbone.head.bias  # mT5 has no place for it
    torch.testing.assert_close(logits, out.logits[real], atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_stock_transformers_writes_the_same_summary(exported: tuple[str, Network, Tokenizer, Path]) -> None:
    """From the exported tokenizer's own ids, with the start token of a language that mBART-50 lacks."""
    kind, network, tokenizer, where = exported
    with torch.no_grad():
        network.backbone.head.bias.zero_() if kind == "mt5" else None
    stock, codes = STOCK[kind].from_pretrained(where).eval(), AutoTokenizer.from_pretrained(where)
    start = tokenizer.start_id("kyrgyz")
    assert start == codes.convert_tokens_to_ids("ky_KG" if kind == "mbart" else "▁<extra_id_94>")
    if kind == "mt5":
        named = json.loads((where / "config.json").read_text())["task_specific_params"]["langid_map"]
        assert named["kyrgyz"][1] == "▁<extra_id_94>"  # for whoever trains on from here
    ids = tokenizer.encode("sun moon star", 20, "english")
    if kind == "mbart":
        codes.src_lang = "en_XX"
    assert ids == codes.encode("sun moon star")
    settings = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False, "decoder_start_token_id": start}
    theirs = stock.generate(torch.tensor([ids]), **settings, forced_eos_token_id=None)
    memory = network.backbone.encode(
        torch.tensor(ids), self_layout([len(ids)], causal=False).to(torch.device("cpu"), torch.float32)
    )
    special = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.eos_id}
    ours = network.backbone.generator().generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory[None]), **settings, **special
    )
    assert torch.equal(ours, theirs)


def test_our_own_backbone_loads_it_back_whole(exported: tuple[str, Network, Tokenizer, Path]) -> None:
    _, network, _, where = exported
    tokenizer = open_tokenizer(where)
    assert not tokenizer.related_ids, "new languages' rows are those that training moved"
    again = network_of(config_of("", pretrained=str(where)), tokenizer)
    before, after = network.backbone.state_dict(), again.backbone.state_dict()
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_precision_is_kept_and_vision_left_out(exported: tuple[str, Network, Tokenizer, Path], tmp_path: Path) -> None:
    kind, network, tokenizer, _ = exported
    export_text(network.bfloat16(), tokenizer, tmp_path / "half")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert not [name for name in stored if "vision" in name or "fusion" in name or "embed_tokens" in name]
    assert STOCK[kind].from_pretrained(tmp_path / "half").dtype == torch.bfloat16


def test_a_directory_that_holds_something_is_left_alone(exported: tuple[str, Network, Tokenizer, Path]) -> None:
    _, network, tokenizer, where = exported
    before = sorted((file.name, file.stat().st_mtime_ns) for file in where.iterdir())
    with pytest.raises(InputError, match="is not empty"):
        export_text(network, tokenizer, where)
    assert sorted((file.name, file.stat().st_mtime_ns) for file in where.iterdir()) == before
    with pytest.raises(InputError, match="cannot export to"):
        export_text(network, tokenizer, where / "config.json" / "below")
