"""Read the tensors of a transformers checkpoint, in a local directory or on the hub.

Read from its files rather than from a loaded model: transformers drops what the model it loads has no place for.
"""

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import safe_open
from torch import Tensor
from transformers.utils import logging as transformers_logging

from models.backbones.checkpoint_config import find_weights
from shards.errors import InputError

#: What transformers raises over a configuration that makes no model of its kind, or not that of the weights.
_MISFITS = (ArithmeticError, LookupError, OSError, RuntimeError, StrictDataclassError, TypeError, ValueError)


def stored_tensor(where: str, name: str, shape: tuple[int, ...]) -> Tensor | None:
    """Return the tensor that the checkpoint stores under exactly `name`, or None.

    `InputError` where the checkpoint holds no weights, or this tensor not in `shape`.
    """
    weights = find_weights(where)
    file = weights.file if weights.parts is None else weights.parts.get(name)
    tensor = None if file is None else _read(file, name)
    if tensor is not None and tuple(tensor.shape) != shape:
        raise _misfit(weights.file, name, tensor.shape, shape)
    return tensor


class _Pretrained(Protocol):
    def from_pretrained(self, where: str, **settings: Any) -> tuple[Any, dict[str, Any]]: ...


def load(model_type: _Pretrained, where: str, name: str, **settings: Any) -> Any:
    """Load transformers' `model_type` with the checkpoint's weights in float32, for the architecture `name`.

    settings: of the configuration. `InputError` where a file is damaged, or where a tensor is missing or of another
    shape, which transformers would leave at random values with no more than a warning.
    """
    weights = find_weights(where)
    for file in sorted({weights.file} if weights.parts is None else set(weights.parts.values())):
        _read(file, "")  # says which file is damaged, as transformers does not
    try:
        with _no_report():
            model, report = model_type.from_pretrained(
                str(weights.file.parent),
                attn_implementation="sdpa",
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # which are ours to refuse, in one line
                **settings,
            )
    except _MISFITS as error:
        raise InputError(
            f"network.text.pretrained: cannot load {name} from {where!r} ({_reason(error)}): config.json and "
            f"{weights.file.name} must be one {name} checkpoint's, so copy them anew"
        ) from error
    if report["mismatched_keys"]:
        raise _misfit(weights.file, *min(report["mismatched_keys"]))
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InputError(
            f"network.text.pretrained: {where!r} lacks {len(missing)} tensors of {name}, {missing[0]} first; "
            f"give the directory of a complete {name} checkpoint"
        )
    if report["unexpected_keys"]:
        unused = sorted(report["unexpected_keys"])
        warnings.warn(
            f"network.text.pretrained: {where!r} has {len(unused)} tensors that its {name} has no place for, "
            f"{unused[0]} first; they are left out",
            stacklevel=2,
        )
    return model


def _read(file: Path, name: str) -> Tensor | None:
    """Return tensor `name` of a file, or None; `InputError` for a damaged file, whatever the name."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as tensors:
                return tensors.get_tensor(name) if name in tensors.keys() else None  # noqa: SIM118
        # Files of torch before 1.6 are no zip archives, and cannot be mapped.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        if not isinstance(state, dict):
            raise TypeError(f"a {type(state).__name__}, not a mapping of tensors")
    except Exception as error:  # a damaged pickle may raise any
        raise InputError(
            f"network.text.pretrained: {file} cannot be read ({_reason(error)}): it is damaged or holds no weights; "
            "copy it anew"
        ) from error
    found = state.get(name)
    return found if isinstance(found, Tensor) else None


def _misfit(file: Path, name: str, found: Sequence[int], wanted: Sequence[int]) -> InputError:
    return InputError(
        f"network.text.pretrained: {name} of {file} has shape {tuple(found)}, but {tuple(wanted)} by the config.json "
        "beside it: they are of different models, so copy both from one checkpoint"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):
        return "not a pickle of tensors"  # torch's own words advise to load it unsafely
    said = " ".join(str(error).split())
    return shorten(f"{type(error).__name__}: {said}" if said else type(error).__name__, 300, placeholder=" ...")


@contextmanager
def _no_report() -> Iterator[None]:
    """Silence the table that transformers prints of tensors that do not fit: we say so in one line."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
