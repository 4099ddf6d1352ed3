"""Name the models that score summaries: local directories, and one in a package. Imports no torch."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.errors import InputError
from trainer.evaluation.scoring.similarity import encoder

if TYPE_CHECKING:
    import torch

    from trainer.recipe.evaluation import EvaluationSection


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The models to score by.

    labse: LaBSE as transformers or sentence-transformers save it.  bertscore: any encoder's directory.
    similarity: True for the sentence encoder of the extra `similarity`.
    """

    labse: Path | None = None
    bertscore: Path | None = None
    similarity: bool = False
    device: "str | torch.device" = "cpu"


def models_of(settings: "EvaluationSection", device: "str | torch.device" = "cpu") -> Models:
    """Return the models that a recipe's evaluation is scored by."""
    return Models(
        labse=settings.labse,
        bertscore=settings.bertscore,
        similarity=settings.sentence_similarity,
        device=device,
    )


def check_models(models: Models) -> None:
    """Raise `InputError` for a directory without a model or a missing package, before hours of decoding."""
    for name, directory in (("labse", models.labse), ("bertscore", models.bertscore)):
        if directory is not None and not (directory / "config.json").is_file():
            raise InputError(f"evaluation.{name}={directory} has no config.json: it must be a model's directory")
    if models.bertscore is not None:
        bert_score()
    if models.similarity:
        encoder()


def bert_score() -> Any:
    """Return the package of BERTScore; `InputError` where it is not installed."""
    try:
        return importlib.import_module("bert_score")
    except ImportError as error:
        raise InputError("evaluation.bertscore needs bert-score: pip install 'd2tv[bertscore]'") from error
