"""Compute LaSE's meaning similarity (LaBSE) and BERTScore by models in local directories. Nothing is downloaded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from shards.errors import InputError, reason
from shards.files.read import read_json
from shards.storage.hub import code_in
from trainer.evaluation.scoring.models import bert_score

Device = str | torch.device
Texts = Sequence[tuple[str, str]]

_BATCH = 64
#: Where sentence-transformers truncates LaBSE's texts.
_LABSE_TOKENS = 256


def labse_similarity(
    directory: Path, texts: Texts, device: Device, after_each: Callable[[], None] = lambda: None
) -> list[float]:
    """Return the cosine of the sentence vectors of each (reference, prediction)."""
    tokenizer, model, project = _open_labse(directory, device)
    length = min(_LABSE_TOKENS, model.config.max_position_embeddings)
    distinct = sorted({text for pair in texts for text in pair}, key=len)
    vectors: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for begin in range(0, len(distinct), _BATCH):
            batch = distinct[begin : begin + _BATCH]
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=length, return_tensors="pt").to(device)
            vectors_BD = torch.nn.functional.normalize(project(model(**inputs)).float(), dim=-1).cpu()
            vectors.update(zip(batch, vectors_BD, strict=True))
            after_each()
    return [float(vectors[reference] @ vectors[prediction]) for reference, prediction in texts]


def _open_labse(directory: Path, device: Device) -> tuple[Any, Any, Callable[[Any], torch.Tensor]]:
    """Return tokenizer, encoder and the projection to a vector: the pooler, or sentence-transformers' dense layer."""
    from transformers import AutoModel, AutoTokenizer

    settings = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, **settings)
        model = AutoModel.from_pretrained(directory, **settings).eval().to(device)
        dense = _dense_layer(directory / "2_Dense", device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = code_in(directory) or reason(error, 1000)
        raise InputError(f"evaluation.labse={directory} cannot be loaded: {why}") from error
    if dense is not None:
        return tokenizer, model, lambda output: torch.tanh(dense(output.last_hidden_state[:, 0]))
    if getattr(model, "pooler", None) is None:
        raise InputError(f"evaluation.labse={directory} is no LaBSE: its model has no pooler, and there is no 2_Dense")
    return tokenizer, model, lambda output: torch.as_tensor(output.pooler_output)


def _dense_layer(folder: Path, device: Device) -> torch.nn.Linear | None:
    if not folder.is_dir():
        return None
    from safetensors.torch import load_file

    kept = folder / "model.safetensors"
    state = load_file(kept) if kept.is_file() else torch.load(folder / "pytorch_model.bin", weights_only=True)
    weight_OI = state["linear.weight"]
    layer = torch.nn.Linear(weight_OI.shape[1], weight_OI.shape[0])
    layer.load_state_dict({"weight": weight_OI, "bias": state["linear.bias"]})
    return layer.to(device)


def bertscore_f1(
    directory: Path, texts: Texts, device: Device, after_each: Callable[[], None] = lambda: None
) -> list[float]:
    """Return BERTScore's F1 of each (reference, prediction), not rescaled; 0 where one of the two is empty.

    The layer is the one that `bert-score` recommends for a model of the directory's name (the 9th of
    `bert-base-multilingual-cased`), the last one of any other.
    """
    package = bert_score()
    layers = package.utils.model2layers.get(directory.resolve().name)
    if layers is None:
        try:
            config = read_json(directory / "config.json")
            layers = config.get("num_hidden_layers") or config["num_layers"]
        except (OSError, ValueError, LookupError, AttributeError) as error:
            raise InputError(f"evaluation.bertscore={directory} cannot be loaded: config.json: {error!r}") from error
    # bert-score does not pass trust_remote_code=False: transformers would ask the user.
    if code := code_in(directory):
        raise InputError(f"evaluation.bertscore={directory} cannot be loaded: {code}")
    try:
        scorer = package.BERTScorer(model_type=str(directory.resolve()), num_layers=layers, device=str(device))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        problem = reason(error, 1000)
        raise InputError(f"evaluation.bertscore={directory} cannot be loaded: {problem}") from error
    # A tokenizer whose directory sets no limit has one that overflows in its own truncation.
    tokenizer, config = scorer._tokenizer, scorer._model.config
    tokenizer.model_max_length = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))
    scores = [0.0] * len(texts)
    # bert-score fails on an empty text with today's transformers.
    full = [number for number, pair in enumerate(texts) if all(text.strip() for text in pair)]
    for begin in range(0, len(full), 16 * _BATCH):
        batch = full[begin : begin + 16 * _BATCH]
        references, predictions = zip(*(texts[number] for number in batch), strict=True)
        _, _, f1_B = scorer.score(list(predictions), list(references), batch_size=_BATCH)
        for number, value in zip(batch, f1_B.tolist(), strict=True):
            scores[number] = value
        after_each()
    return scores
