"""Export a checkpoint as a directory of its own: weights, tokenizer, recipe, data manifest and model card.

`open_model` (trainer/trained.py) reads all of it back; transformers loads the text part. The directory holds

    model.safetensors, config.json, generation_config.json    the backbone, as transformers saves one
    vision.safetensors                                        vision and fusion; none of a network of text alone
    tokenizer files                                           transformers' own, or spiece.model, d2tv_tokenizer.json
    recipe.yaml, state.json                                   the checkpoint's, as they were
    product.json                                              name and configuration of the network, one of several
    corpus.json                                               facts of the run's corpus, and its licences
    manifest.json                                             size and SHA-256 of the files above, as in a checkpoint
    README.md                                                 the model card, free to be edited
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import GenerationConfig

from models.backbones.export import save_backbone
from models.network import Network
from shards.errors import InputError, did_you_mean
from shards.files.write import write_atomically
from shards.format.manifest import read_manifest
from shards.locations import is_url, without_secrets
from shards.text.tokenizer import Tokenizer
from trainer.checkpoint.directory import CORPUS, described, seal, sync
from trainer.checkpoint.tidying import reading
from trainer.export.model_card import language_code, model_card
from trainer.recipe import load_saved_recipe
from trainer.terminal.progress import stage
from trainer.trained import Model, load_model, rest_of
from trainer.trained_files import CONFIG, PRODUCT, RECIPE, REST, STATE, data_of, resolve_checkpoint

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Overrides that an export takes: present locations. The checkpoint determines everything else.
_PATHS = ("corpus.path", "corpus.tokenizer", "network.text.pretrained")


def export_text(network: Network, tokenizer: Tokenizer, directory: Path) -> None:
    """Write the backbone and its tokenizer, new language tokens included, into `directory` (new or empty).

    `network.text.pretrained` and `corpus.tokenizer` take the directory back; for stock transformers see
    models/backbones/export.py. A SentencePiece model that `d2tv prepare` trained is copied; only this project reads it.
    Raises `InputError` for a directory that is not empty or cannot be written.
    """
    try:
        save_backbone(network.backbone, directory, tokenizer.langid_map)
        tokenizer.save(directory)
    except InputError:
        raise
    except Exception as error:  # where a disk is full, neither safetensors nor the tokenizers raise an OSError
        raise InputError(f"cannot export to {directory}: {' '.join(str(error).split())}") from error


def export_model(
    where: Path, directory: Path, dtype: str = "fp32", overrides: Sequence[str] = (), product: str | None = None
) -> None:
    """Export the checkpoint that `where` means (`resolve_checkpoint`) into `directory`, which must be new or empty.

    dtype: fp32 (the masters, bit for bit), bf16 or fp16.  overrides: corpus.path=, corpus.tokenizer=,
    network.text.pretrained= where these moved.  product: the name of another network of the objective than its first.
    `directory` is complete or absent. Raises `InputError`.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}{did_you_mean(dtype, DTYPES)}: give one of {', '.join(DTYPES)}")
    for override in overrides:
        if override.partition("=")[0] not in _PATHS:
            raise InputError(f"{without_secrets(override)}: an export takes nothing but {'=, '.join(_PATHS)}=")
    with new_directory(directory, "export") as staging, contextlib.ExitStack() as leaving, stage("exporting"):
        checkpoint = resolve_checkpoint(where)
        leaving.enter_context(reading(checkpoint))
        model, data = load_model(checkpoint, overrides, product), data_of(checkpoint)
        _cast(model.network, dtype)
        export_text(model.network, model.tokenizer, staging)
        _check_tokenizer(checkpoint, data, staging)
        _generation(model, data["languages"]).save_pretrained(str(staging))
        if rest := rest_of(model.network):
            tensors = {name: tensor.contiguous() for name, tensor in rest.items()}
            save_file(tensors, staging / REST, metadata={"format": "pt"})
        for name in (RECIPE, STATE):
            shutil.copyfile(checkpoint / name, staging / name)
        if model.product is not None:
            facts = {"name": model.product, "network": model.recipe.network.model_dump(mode="json")}
            (staging / PRODUCT).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        manifest = _manifest(model.recipe.corpus.path, data["content_hash"])
        if manifest is not None:
            data["licences"] = _licences(manifest["provenance"])
        (staging / CORPUS).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for file in staging.iterdir():
            shutil.copymode(staging / CONFIG, file)  # safetensors writes for its owner alone
        seal(staging, {file.name: described(file) for file in sorted(staging.iterdir())})
        # Not in the manifest: a person may edit it.
        write_atomically(staging / "README.md", model_card(model, checkpoint, data, dtype).encode())
        size = sum(file.stat().st_size for file in staging.iterdir())
    of = "" if model.product is None else f"{model.product} of "
    card = directory / "README.md"
    print(f"{of}{checkpoint} exported to {directory} ({size / 1e6:,.1f} MB, {dtype}); what it is: {card}")


@contextmanager
def new_directory(directory: Path, verb: str) -> Iterator[Path]:
    """Yield a directory to fill that takes the name `directory` at the end of the block. verb: for messages.

    Where the block fails nothing of it stays. A link stays, and an empty directory passes its mode on. Raises
    `InputError` for a `directory` that is not empty, and for an error of writing in the block.
    """
    final = Path(os.path.realpath(directory))
    staging = final.with_name(f".{final.name}.{secrets.token_hex(8)}.partial")
    made: list[Path] = []
    try:
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            what = "is not empty" if final.is_dir() else "is a file"
            raise InputError(f"{directory} {what}: name a new directory to {verb} to")
        made = [parent for parent in staging.parents if not parent.exists()]
        staging.mkdir(parents=True)
        yield staging
        if final.exists():
            shutil.copymode(final, staging)
        sync(staging)
        os.replace(staging, final)
        sync(final.parent)
        made = []
    except (OSError, SafetensorError, InputError) as error:  # the second where a disk is full
        # The message names the directory, not its temporary name.
        message = str(error).replace(str(staging), str(directory))
        raise InputError(
            message if isinstance(error, InputError) else f"cannot {verb} to {directory}: {message}"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def _cast(network: Network, dtype: str) -> None:
    """Convert the weights. Raises `InputError` where one does not fit into the precision."""
    network.to(DTYPES[dtype])
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise InputError(f"{name} has values that {dtype} cannot hold: export with another --dtype")


def _generation(model: Model, languages: Sequence[str]) -> GenerationConfig:
    """Return the recipe's decoding for transformers' `generate`, and every language's start token."""
    settings = model.recipe.evaluation
    return GenerationConfig(
        num_beams=settings.num_beams,
        # transformers saves no penalty of beams where there is one.
        length_penalty=settings.length_penalty if settings.num_beams > 1 else None,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
        max_new_tokens=model.recipe.lengths.summary,
        pad_token_id=model.tokenizer.pad_id,
        eos_token_id=model.tokenizer.eos_id,
        lang_to_id={language_code(name): model.tokenizer.start_id(name) for name in languages},
    )


def _check_tokenizer(checkpoint: Path, data: Mapping[str, Any], staging: Path) -> None:
    """Compare a corpus' own tokenizer, where an override names it, with that of the run."""
    if load_saved_recipe(checkpoint / RECIPE).corpus.tokenizer is not None:
        return
    for name, entry in data["files"].items():
        folder, _, file = name.rpartition("/")
        if folder == "tokenizer" and _sha256(staging / file) != entry["sha256"]:
            raise InputError(
                f"corpus.tokenizer is not the one that {checkpoint} was trained with ({file} differs): leave it out, "
                "or give that of the run's corpus"
            )


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _manifest(location: str, content_hash: str) -> Mapping[str, Any] | None:
    """Return the corpus' own manifest where it can be read; it has facts that the run did not keep."""
    if is_url(location):
        return None
    try:
        manifest = read_manifest(Path(location))
    except (InputError, OSError):
        return None
    return manifest if manifest["content_hash"] == content_hash else None


def _licences(provenance: Any) -> list[dict[str, str]]:
    """Return name, version and licence of everything with a licence in the corpus' manifest."""
    if isinstance(provenance, list):
        return [found for value in provenance for found in _licences(value)]
    if not isinstance(provenance, dict):
        return []
    if isinstance(provenance.get("license"), str):
        return [{key: str(provenance[key]) for key in ("name", "version", "license") if key in provenance}]
    return [found for value in provenance.values() for found in _licences(value)]
