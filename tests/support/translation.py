"""A translation model of M2M100's kind, random and tiny, saved by transformers: what it writes is no translation."""

import json
from pathlib import Path

import sentencepiece
import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

from tests.support.pretrained import train_mbart


def save_m2m100(directory: Path) -> Path:
    """A directory like facebook/m2m100_418M's: a hundred languages, and an end behind the tenth token or soon."""
    pieces, files = train_mbart(), directory.with_name(directory.name + "-pieces")
    files.mkdir(parents=True)
    model = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = [model.id_to_piece(number) for number in range(model.get_piece_size())]
    vocabulary = special + [word for word in words if word not in special]
    (files / "model").write_bytes(pieces)
    (files / "vocab").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    tokenizer = M2M100Tokenizer(str(files / "vocab"), str(files / "model"))
    tokenizer.save_pretrained(directory)
    config = M2M100Config(
        vocab_size=len(tokenizer) + 100 + 8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=96,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = M2M100ForConditionalGeneration(config)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.mul_(20)  # texts that differ are translated differently
        network.model.decoder.layer_norm.bias.fill_(0.3)
        network.model.shared.weight[config.eos_token_id] += 2.0
        # Words alone: start, padding, unknown words and the languages are no part of a text.
        network.model.shared.weight[[0, 1, 3, *range(len(tokenizer), config.vocab_size)]] -= 5.0
    network.save_pretrained(directory)
    return directory
