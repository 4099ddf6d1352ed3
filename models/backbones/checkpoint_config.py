"""Read a transformers checkpoint's config.json (architecture, lengths, words), and find its weights, without torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast, get_args

from models.config import Architecture, TextConfig
from shards.errors import InputError
from shards.storage.hub import SMALL_FILES, directory_of

#: Positions of a random mBART where the recipe does not say: mBART-50's.
MBART_POSITIONS = 1024
#: Rows that a checkpoint may have beyond its tokenizer's words: padding to a round number (mT5: 12 of 250,112).
SPARE_ROWS = 1024
#: Where transformers keeps weights, in the order it looks; `.index.json` behind the name lists the parts of several.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def architecture(config: TextConfig) -> Architecture:
    """Return the architecture that `config` describes: its checkpoint's `model_type`, or that of a random backbone."""
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
    """Return the longest text in tokens that the backbone has positions for; None for any length (mT5)."""
    if architecture(config) == "mt5":
        return None
    if config.pretrained is None:
        return config.max_position_embeddings or MBART_POSITIONS
    return _count(config.pretrained, "max_position_embeddings", MBART_POSITIONS)


def check_tokenizer(
    config: TextConfig,
    vocab_size: int,
    pad_id: int,
    eos_id: int,
    related_ids: Mapping[int, Sequence[int]] = MappingProxyType({}),
) -> None:
    """Raise `InputError` where a checkpoint was made for another tokenizer than this one. Reads config.json only.

    vocab_size, pad_id, eos_id, related_ids: the tokenizer's. A checkpoint may have up to `SPARE_ROWS` more rows than
    the tokenizer has words; rows that it lacks, only mBART makes, and only of related ones (`MBartBackbone`).
    """
    where = config.pretrained
    if where is None:
        return
    if config.reset_start_tokens is not None and architecture(config) != "mt5":
        raise InputError(
            f"network.text.reset_start_tokens is for mT5, which has no language tokens of its own, but {where!r} has: "
            "remove the key"
        )
    fix = f"set corpus.tokenizer={where}, or to the directory of the tokenizer that it was trained with"
    stored = read_config(where)
    for key, wanted in (("pad_token_id", pad_id), ("eos_token_id", eos_id)):
        if stored.get(key, wanted) != wanted:
            raise InputError(
                f"network.text.pretrained: {where!r} has {key} {stored[key]}, the tokenizer {wanted}: {fix}"
            )
    rows = _count(where, "vocab_size")
    makes_rows = architecture(config) == "mbart"
    made = {new for new, related in related_ids.items() if makes_rows and related and max(related) < rows}
    if vocab_size < rows - SPARE_ROWS or not made.issuperset(range(rows, vocab_size)):
        raise InputError(f"network.text.pretrained: {where!r} has {rows} words, the tokenizer {vocab_size}: {fix}")


class Weights(NamedTuple):
    """Files of a checkpoint's weights."""

    file: Path  # of all weights, or the index of their parts
    parts: dict[str, Path] | None  # tensor -> its part


def find_weights(where: str) -> Weights:
    """Return the files that transformers would choose; `InputError` where there are none or not all."""
    for stem in _WEIGHTS:
        # A hub may have the weights in both forms: the second is fetched only where the first is not to be had.
        directory = directory_of_checkpoint(where, (*SMALL_FILES, f"*{Path(stem).suffix}"))
        if (directory / stem).is_file():
            return Weights(directory / stem, None)
        index = directory / f"{stem}.index.json"
        if not index.is_file():
            continue
        values = read_json(index)
        names = values.get("weight_map") if isinstance(values, dict) else None
        if not isinstance(names, dict) or not all(isinstance(part, str) for part in names.values()):
            raise InputError(f"network.text.pretrained: {index} has no mapping weight_map: copy it anew")
        for part in sorted(set(names.values())):
            if not (directory / part).is_file():
                raise InputError(
                    f"network.text.pretrained: {where!r} lists {part} in {index.name} but lacks it: copy it there"
                )
        return Weights(index, {name: directory / part for name, part in names.items()})
    raise InputError(
        f"network.text.pretrained: {where!r} holds no {' or '.join(_WEIGHTS)}: give the directory of a checkpoint"
    )


def read_config(where: str) -> dict[str, Any]:
    """Return the checkpoint's config.json; `InputError` where there is none to read."""
    file = directory_of_checkpoint(where) / "config.json"
    if not file.is_file():
        raise InputError(
            f"network.text.pretrained: no config.json to be had from {where!r}: give the directory of a checkpoint"
        )
    values = read_json(file)
    if not isinstance(values, dict):
        raise InputError(f"network.text.pretrained: {file} is no mapping of settings: copy it anew")
    return values


def read_json(file: Path) -> Any:
    """Return the content of a checkpoint's JSON file; `InputError` where it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"network.text.pretrained: {file} is not JSON ({error}): copy it anew") from error


def directory_of_checkpoint(where: str, patterns: tuple[str, ...] = SMALL_FILES) -> Path:
    """Return the directory of the files that match `patterns`; `InputError` where they are not to be had."""
    return directory_of(where, f"network.text.pretrained={where}", patterns)


def _count(where: str, key: str, default: int | None = None) -> int:
    """Return a number of config.json; `InputError` where it is none."""
    value = read_config(where).get(key, default)
    if not isinstance(value, int):
        raise InputError(f"network.text.pretrained: config.json of {where!r} has no number {key}: copy it anew")
    return value
