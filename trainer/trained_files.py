"""Find a trained network by a run, one of its checkpoints, or an exported model, and read its recipe. Imports no torch.

An exported model is a directory that trainer/export/model.py wrote; its `state.json` and `manifest.json` are like a
checkpoint's, so that it is checked and evaluated in the same way. trained.py loads what is found here.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.config import NetworkConfig, TextConfig
from shards.errors import InputError, did_you_mean, reason
from shards.files.read import read_json
from shards.format.manifest import SPLITS
from shards.locations import without_secrets
from trainer.checkpoint.directory import CORPUS, MANIFEST, damage, read_state, whole_checkpoints
from trainer.recipe import Recipe, load_saved_recipe

#: The files of an exported model: transformers' own, and the rest of the network, which is ours.
TEXT, REST, CONFIG = "model.safetensors", "vision.safetensors", "config.json"
RECIPE = "recipe.yaml"
#: Name and configuration of the exported network, where it is one of several: then the recipe does not say which.
PRODUCT = "product.json"
STATE = "state.json"


def is_model(path: Path) -> bool:
    """Return True if `path` is (what is left of) an exported model: a checkpoint has neither file."""
    return (path / RECIPE).is_file() and ((path / CONFIG).is_file() or (path / TEXT).is_file())


def find_trained(where: Path, names: Collection[str] | None = None) -> Path:
    """Return the directory of an exported model, or the checkpoint that `where` means; reads every byte to check it.

    names: check these files alone.
    """
    if not is_model(where):
        return resolve_checkpoint(where, names)
    problem = damage(where, names)
    absent = [name for name in (TEXT, CONFIG, RECIPE, STATE, CORPUS) if not (where / name).is_file()]
    if problem is None and absent:
        problem = f"{absent[0]} is missing"
    if problem is not None:
        raise InputError(f"{where} is damaged: {problem}: copy it anew, or export it again")
    return where


def resolve_checkpoint(path: Path, names: Collection[str] | None = None) -> Path:
    """Return the checkpoint that `path` means: itself, the newest whole one of a run, or one named in a file beside it.

    names: check these files alone. Raises `InputError` where there is none, or where it is damaged.
    """
    if path.is_file():
        path = _named_in(path)
    if is_model(path):
        raise InputError(f"{path} is an exported model: name a run or one of its checkpoints")
    if (path / STATE).is_file() or (path.is_dir() and path.name.startswith("step-")):
        checkpoint, others = path, whole_checkpoints(path.parent)
    else:
        others = whole_checkpoints(path / "checkpoints") or whole_checkpoints(path)
        if not others:
            near = did_you_mean(path.name, _names_beside(path))
            raise InputError(f"no whole checkpoint under {path}/checkpoints: is {path} a run directory?{near}")
        checkpoint = others[0]
    problem = damage(checkpoint, names) if (checkpoint / MANIFEST).is_file() else f"{MANIFEST} is missing"
    if problem:
        left = [other.name for other in others if other != checkpoint]
        hint = f"; there are {', '.join(left)} beside it" if left else ""
        raise InputError(f"{checkpoint} is damaged: {problem}{hint}")
    return checkpoint


def run_of(path: Path) -> Path:
    """Return the directory of a checkpoint's evaluations: its run, or itself without one. A model is its own run."""
    folder = path.parent if path.parent.name == "checkpoints" else path.resolve().parent
    return path if is_model(path) or folder.name != "checkpoints" else folder.parent


def trained_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a checkpoint or model, with `run` where it lies now.

    A model's own files replace the paths that it was trained from. Raises `InputError` for an override that would
    describe another network than that of the weights.
    """
    model = is_model(path)
    for override in overrides:
        key = override.partition("=")[0]
        paths = () if model else ("network.text.pretrained",)
        if key.partition(".")[0] in ("network", "objective") and key not in paths:
            raise InputError(f"{without_secrets(override)}: the weights in {path} decide the network: leave it out")
        if model and key == "corpus.tokenizer":
            raise InputError(f"{without_secrets(override)}: {path} holds its own tokenizer: leave it out")
    recipe = load_saved_recipe(path / RECIPE, overrides)
    if not any(override.startswith("run=") for override in overrides):
        recipe = recipe.model_copy(update={"run": run_of(path)})
    if not model:
        return recipe
    _, network = read_product(path)
    network = network or recipe.network
    before = network.text
    # Its sizes are in config.json.
    text = TextConfig(pretrained=str(path), dropout=before.dropout, attention_dropout=before.attention_dropout)
    return recipe.model_copy(
        update={
            "corpus": recipe.corpus.model_copy(update={"tokenizer": str(path)}),
            "network": network.model_copy(update={"text": text}),
        }
    )


def read_product(model: Path) -> tuple[str | None, NetworkConfig | None]:
    """Return name and configuration of the network in an exported model that is one of several; else None and None."""
    file = model / PRODUCT
    if not file.is_file():
        return None, None
    try:
        values = read_json(file)
        return str(values["name"]), NetworkConfig.model_validate(values["network"])
    except (OSError, ValueError, LookupError, TypeError, ValidationError) as error:
        raise InputError(f"{file} cannot be read ({reason(error)}): export {model} again") from error


def check_same_corpus(path: Path, content_hash: str, location: str) -> None:
    """Raise `InputError` where the corpus at `location` is not the one that `path` was trained on."""
    if read_state(path).corpus != content_hash:
        whose = path if is_model(path) else run_of(path)
        raise InputError(f"{location} is not the corpus that {whose} was trained on: set corpus.path=")


def data_of(path: Path) -> dict[str, Any]:
    """Return the part of its corpus' manifest that a checkpoint or model keeps (shards/format/changes.py)."""
    try:
        values = read_json(path / CORPUS)
        sound = isinstance(values["content_hash"], str) and all(isinstance(name, str) for name in values["languages"])
        sound = sound and all(isinstance(entry["sha256"], str) for entry in values["files"].values())
        counts = [values["splits"][split][what] for split in SPLITS for what in ("stories", "articles", "edges")]
        sound = sound and all(type(count) is int for count in counts) and isinstance(values["name"], str)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path / CORPUS} cannot be read ({error!r}): copy {path} anew") from error
    if not sound:
        raise InputError(f"{path / CORPUS} holds values of other types: copy {path} anew")
    return dict(values)


def _named_in(file: Path) -> Path:
    """Return the checkpoint that a file like `checkpoints/latest` names."""
    try:
        with open(file, encoding="utf-8") as lines:
            name = lines.read(1000).strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    if not name.startswith("step-") or Path(name).name != name or len(name.split()) > 1:
        raise InputError(
            f"{file} does not name a checkpoint: give a run, a checkpoint directory, or checkpoints/latest"
        )
    named = file.parent / name
    if not named.is_dir():
        near = did_you_mean(name, [path.name for path in whole_checkpoints(file.parent)])
        raise InputError(f"{file} names {name}, which is not there{near}")
    return named


def _names_beside(path: Path) -> list[str]:
    try:
        return [other.name for other in path.parent.iterdir() if other.name != path.name and other.is_dir()]
    except OSError:
        return []
