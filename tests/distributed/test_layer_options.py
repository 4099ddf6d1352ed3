"""Activation checkpointing and torch.compile under ZeRO-2 on two ranks: the same run, dropout included."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.config import VisionConfig
from models.layers import LayerRunner
from models.ragged import self_layout
from models.vision import VisualEncoder
from shards.format.index import Corpus
from tests.numerics.test_sharing import assert_compiled_layers_compute_the_same
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides

STEPS = 4


@pytest.fixture(scope="module")
def plain(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return train(tiny_corpus, tmp_path_factory.mktemp("plain"))


def train(corpus: Corpus, folder: Path, *words: str) -> list[dict[str, Any]]:
    overrides = [*tiny_overrides(corpus.directory, folder / "run"), "batch.groups_per_micro_batch=1"]
    return run_job(folder / "job", world_size=2, overrides=[*overrides, *words], steps=STEPS)


def test_a_rank_that_compiles_nothing_does_not_import_the_compiler(plain: list[dict[str, Any]]) -> None:
    """It would cost as much as all else between the imports and the first step."""
    assert not any(rank["imported_inductor"] for rank in plain)


def test_activation_checkpointing_trains_bit_for_bit_the_same(
    tiny_corpus: Corpus, tmp_path: Path, plain: list[dict[str, Any]]
) -> None:
    found = train(tiny_corpus, tmp_path, "training.activation_checkpointing=true")
    assert found[0]["losses"] == plain[0]["losses"]
    for rank, expected in zip(found, plain, strict=True):
        assert all((rank["weights"][name] == weight).all() for name, weight in expected["weights"].items())


@pytest.mark.long
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_story_batches_compute_the_same(checkpointing: bool) -> None:
    assert_compiled_layers_compute_the_same(checkpointing)


@pytest.mark.long
def test_layers_compiled_for_one_text_keep_three_apart() -> None:
    """Inductor took the graph of one row of 72 tokens for three of them: each token saw all sequences."""
    torch.manual_seed(0)
    shape = {"feature_size": 32, "hidden_size": 16, "ffn_size": 32, "num_layers": 1, "num_heads": 2, "max_images": 2}
    encoder = VisualEncoder(VisionConfig.model_validate(shape))
    plain, compiled = LayerRunner(), LayerRunner(compile=True)
    for sequences in (1, 3, 2):
        layout = self_layout([72] * sequences, causal=False).to(torch.device("cpu"), torch.float32)
        inputs = torch.randn(2 * sequences, 36, 32), torch.rand(2 * sequences, 36, 4), torch.tensor([0, 1] * sequences)
        found = []
        for encoder.runner in (plain, compiled):
            torch.manual_seed(sequences)  # the dropout's
            found.append(encoder(*inputs, layout))
        torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)


@pytest.mark.long
def test_compiled_layers_train_the_same(tiny_corpus: Corpus, tmp_path: Path, plain: list[dict[str, Any]]) -> None:
    found = train(tiny_corpus, tmp_path, "training.compile=true", "training.activation_checkpointing=true")
    for step, expected in zip(found[0]["losses"], plain[0]["losses"], strict=True):
        assert step == pytest.approx(expected, rel=1e-4), "fused sums are rounded otherwise"
