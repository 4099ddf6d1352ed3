"""The text part of a trained network as a directory that transformers loads."""

from pathlib import Path

from models.backbones.export import save_backbone
from models.network import Network
from shards.tokenizer import Tokenizer


def export_text(network: Network, tokenizer: Tokenizer, directory: Path) -> None:
    """Write the backbone and its tokenizer, new language tokens included, into `directory` (new or empty).

    `network.text.pretrained` and `corpus.tokenizer` take the directory back. What stock transformers makes of it:
    models/backbones/export.py. A SentencePiece model that `d2tv prepare` trained is written as it is, which only
    this project reads. Raises `InputError` for a directory that holds something or cannot be written.
    """
    save_backbone(network.backbone, directory)
    tokenizer.save(directory)
