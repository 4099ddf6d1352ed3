"""LaSE's meaning similarity and BERTScore, from tiny encoders in directories, against their definitions."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizer

from shards.errors import InputError
from trainer.evaluation.scoring.measures import MEASURES, Pair
from trainer.evaluation.scoring.models import Models, check_models
from trainer.evaluation.scoring.score import score
from trainer.evaluation.scoring.semantic import bertscore_f1, labse_similarity

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = [("the cat", "the cat"), ("the cat sat on a mat", "a dog"), ("one", "xyz abc the one"), ("a b c", "c b a")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers that reads letters."""
    directory = tmp_path_factory.mktemp("encoder")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture
def states(encoder: Path) -> Callable[[str], Any]:
    """What the encoder makes of one text, alone and without padding."""
    tokenizer, model = BertTokenizer.from_pretrained(encoder), BertModel.from_pretrained(encoder).eval()

    def of(text: str) -> Any:
        with torch.inference_mode():
            return model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=48))

    return of


def test_meaning_similarity_is_the_cosine_of_the_poolers_vectors(encoder: Path, states: Callable[[str], Any]) -> None:
    def vector(text: str) -> torch.Tensor:
        return torch.nn.functional.normalize(states(text).pooler_output[0], dim=-1)

    wanted = [float(vector(one) @ vector(other)) for one, other in TEXTS]
    assert labse_similarity(encoder, TEXTS, CPU) == pytest.approx(wanted, abs=1e-5)
    assert wanted[0] == pytest.approx(1)
    assert len({round(value, 3) for value in wanted}) > 2
    assert labse_similarity(encoder, [("a " * 200, "a " * 300)], CPU) == pytest.approx([1.0], abs=1e-5), "cut"


@pytest.mark.parametrize("kept", ["model.safetensors", "pytorch_model.bin"])
def test_sentence_transformers_dense_layer_takes_the_poolers_place(
    encoder: Path, tmp_path: Path, states: Callable[[str], Any], kept: str
) -> None:
    directory = tmp_path / "labse"
    directory.mkdir()
    for path in encoder.iterdir():
        (directory / path.name).symlink_to(path)
    (directory / "2_Dense").mkdir()
    torch.manual_seed(1)
    dense = {"linear.weight": torch.randn(8, 16), "linear.bias": torch.randn(8)}
    save: Callable[..., None] = save_file if kept.endswith("safetensors") else torch.save
    save(dense, directory / "2_Dense" / kept)

    def vector(text: str) -> torch.Tensor:
        first = states(text).last_hidden_state[0, 0]
        return torch.nn.functional.normalize(torch.tanh(dense["linear.weight"] @ first + dense["linear.bias"]), dim=-1)

    wanted = [float(vector(one) @ vector(other)) for one, other in TEXTS]
    assert labse_similarity(directory, TEXTS, CPU) == pytest.approx(wanted, abs=1e-5)


def test_bertscore_is_the_greedy_matching_of_the_last_layer(encoder: Path, states: Callable[[str], Any]) -> None:
    def f1(reference: str, prediction: str) -> float:
        one, other = (
            torch.nn.functional.normalize(states(text).last_hidden_state[0], dim=-1) for text in (reference, prediction)
        )
        cosine = one @ other.T
        recall = cosine[1:-1].max(dim=1).values.mean()  # [CLS] and [SEP] may be matched, but count nothing
        precision = cosine[:, 1:-1].max(dim=0).values.mean()
        return float(2 * precision * recall / (precision + recall))

    found = bertscore_f1(encoder, [*TEXTS, ("a", ""), ("", "a"), ("", "")], CPU)
    assert found[: len(TEXTS)] == pytest.approx([f1(*texts) for texts in TEXTS], abs=1e-5)
    assert found[len(TEXTS) :] == [0, 0, 0]


def test_lase_is_the_product_of_its_parts(encoder: Path) -> None:
    pairs = [
        Pair(source="english", target="english", document="a", reference=reference, prediction=prediction)
        for reference, prediction in [
            ("the government passed a law", "the government has passed the law"),
            ("the government passed a law", "le gouvernement a adopté une loi"),
            ("the law", "the law " * 10),
        ]
    ]
    seen: list[int] = []
    columns = score(pairs, models=Models(labse=encoder, bertscore=encoder), after_each=lambda: seen.append(1)).columns
    assert list(columns) == [*MEASURES, "meaning_similarity", "lase", "bertscore"]
    for number, lase in enumerate(columns["lase"]):
        parts = [columns[name][number] for name in ("meaning_similarity", "language_confidence", "length_penalty")]
        assert all(part is not None for part in parts)
        meaning, sure, length = (float(part or 0) for part in parts)
        assert lase == pytest.approx(100 * (meaning / 100) * (sure / 100) * (length / 100))
    assert len(seen) >= 3, "a watchdog is told of every batch"


def test_a_directory_that_is_no_model_is_refused_before_any_work(tmp_path: Path, encoder: Path) -> None:
    check_models(Models())
    check_models(Models(labse=encoder, bertscore=encoder))
    for name in ("labse", "bertscore"):
        with pytest.raises(InputError, match=rf"^evaluation\.{name}=\S+ has no config\.json"):
            check_models(Models(**{name: tmp_path}))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"^evaluation\.labse=\S+ cannot be loaded: [^\n]+$"):
        labse_similarity(tmp_path, TEXTS, CPU)


def test_bert_score_is_an_extra_that_is_named(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bert_score", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"pip install 'd2tv\[bertscore\]'"):
        check_models(Models(bertscore=encoder))
    check_models(Models(labse=encoder))
