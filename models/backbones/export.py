"""Write a backbone as a checkpoint of transformers: config.json and model.safetensors."""

import copy
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from models.backbones.base import Backbone
from shards.errors import InputError

_CLASSES = {"mt5": "MT5ForConditionalGeneration", "mbart": "MBartForConditionalGeneration"}


def save_backbone(backbone: Backbone, directory: Path, langid_map: Mapping[str, tuple[int, str]] | None = None) -> None:
    """Write the backbone into `directory`, which must be new or empty, in the precision it has.

    `network.text.pretrained` takes the directory back, weight for weight, and stock transformers loads it with

    - mBART: everything. The head's bias is its `final_logits_bias`.
    - mT5: everything but the head's bias, which it has no place for: it names `lm_head.bias` as unexpected.

    Both call their head tied to the embeddings. transformers 5 (ran with 5.23) takes the head apart where a file holds
    both and they differ, and says so; a version that tied them all the same would lose our head. (To call them untied
    would not help: mT5 ignores it, and mBART then unties the embeddings of encoder and decoder as well.)

    Both start a summary with the language's own token: `generate(..., decoder_start_token_id=...)`, not mBART-50's
    `forced_bos_token_id`, which would put `</s>` before it. Vision and fusion have no place in either.

    langid_map: of mT5, which sentinel begins a language's summaries. It goes into config.json, where CrossSum's trainer
    has it, and whoever trains on from here finds it.

    Raises `InputError` for a directory that holds something or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise InputError(f"{directory} is not empty: name a new directory to export to")
        config = copy.deepcopy(backbone.model.config)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in backbone.stored_tensors().items()}
        config.architectures = [_CLASSES[config.model_type]]
        config.tie_word_embeddings = True
        if langid_map is not None:
            config.task_specific_params = {
                **(getattr(config, "task_specific_params", None) or {}),
                "langid_map": dict(langid_map),
            }
        config.dtype = backbone.head.weight.dtype
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        # Last: without it nothing takes the directory for a checkpoint.
        config.save_pretrained(str(directory))
    except OSError as error:
        raise InputError(f"cannot export to {directory}: {error}") from error
