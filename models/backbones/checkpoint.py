"""What a transformers checkpoint says of itself, in a local directory or on the hub: architecture, lengths, head.

Read from its files rather than from a loaded model: transformers drops what the model it loads has no place for.
"""

import json
from pathlib import Path
from typing import Any, Protocol, cast, get_args

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils.hub import cached_file

from models.config import Architecture, TextConfig
from shards.errors import InputError

#: Positions of a random mBART where the recipe does not say: mBART-50's.
MBART_POSITIONS = 1024
#: Where transformers keeps weights, the newer form first; `.index.json` behind the name lists the parts of several.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def architecture(config: TextConfig) -> Architecture:
    """Of the backbone that `config` describes: its checkpoint's `model_type`, or what a random one is to be."""
    where = config.pretrained
    if where is None:
        return config.architecture or "mt5"
    found = read_config(where).get("model_type")
    supported = get_args(Architecture)
    if found not in supported:
        raise InputError(
            f"network.text.pretrained: {where!r} is of model type {found!r}; supported are {' and '.join(supported)} "
            "(mBART-50 is of type mbart)"
        )
    if config.architecture not in (None, found):
        raise InputError(
            f"network.text.architecture is {config.architecture}, but {where!r} holds an {found} model: remove the key"
        )
    return cast(Architecture, found)


def max_length(config: TextConfig) -> int | None:
    """The longest text in tokens that the backbone has positions for; None where every length will do (mT5)."""
    if architecture(config) == "mt5":
        return None
    if config.pretrained is None:
        return config.max_position_embeddings or MBART_POSITIONS
    return int(read_config(config.pretrained).get("max_position_embeddings", MBART_POSITIONS))


def read_config(where: str) -> dict[str, Any]:
    """The checkpoint's config.json; `InputError` where there is none to read."""
    file = find(where, "config.json")
    if file is None:
        raise InputError(
            f"network.text.pretrained: no config.json to be had from {where!r}: give the directory of a checkpoint"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"network.text.pretrained: {file} is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"network.text.pretrained: {file} is no mapping of settings")
    return values


def find(where: str, name: str) -> Path | None:
    """File `name` of a directory or hub id; None where the checkpoint has none. `InputError` for no checkpoint."""
    # A path that is written as one is never looked for on the hub.
    if Path(where).is_absolute() and not Path(where).is_dir():
        raise InputError(f"network.text.pretrained: there is no directory {where!r}")
    try:
        file = cached_file(where, name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"network.text.pretrained: cannot read {name} of {where!r}: {reason}") from error
    return None if file is None else Path(file)


def stored_tensor(where: str, name: str) -> Tensor | None:
    """The tensor that the checkpoint stores under exactly `name`, or None. `InputError` where it holds no weights."""
    for index in filter(None, (find(where, f"{stem}.index.json") for stem in _WEIGHTS)):
        part = json.loads(index.read_text(encoding="utf-8"))["weight_map"].get(name)
        if part is None:
            return None
        file = find(where, part)
        if file is None:
            raise InputError(f"network.text.pretrained: {where!r} lists {part} in {index.name} but lacks it")
        return _read(file, name)
    for stem in _WEIGHTS:
        file = find(where, stem)
        if file is not None:
            return _read(file, name)
    raise InputError(f"network.text.pretrained: {where!r} holds no {' or '.join(_WEIGHTS)}")


class _Pretrained(Protocol):
    def from_pretrained(self, where: str, **settings: Any) -> tuple[Any, dict[str, Any]]: ...


def load(model_type: _Pretrained, where: str, name: str, **settings: Any) -> Any:
    """transformers' `model_type` with the checkpoint's weights in float32, for the architecture `name`.

    settings: of the configuration. `InputError` where a tensor is missing, which transformers would leave at random
    values with no more than a warning.
    """
    try:
        model, report = model_type.from_pretrained(
            where, attn_implementation="sdpa", dtype=torch.float32, output_loading_info=True, **settings
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"network.text.pretrained: cannot load {name} from {where!r}: {reason}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InputError(
            f"network.text.pretrained: {where!r} lacks {len(missing)} tensors of {name}, {missing[0]} first; "
            f"give the directory of a complete {name} checkpoint"
        )
    return model


def _read(file: Path, name: str) -> Tensor | None:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            return tensors.get_tensor(name) if name in tensors.keys() else None  # noqa: SIM118
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return state.get(name)
