"""Check the keys and values of a --ds_config file by the installed DeepSpeed itself.

DeepSpeed validates some blocks strictly and reads others key by key, where it ignores a mistyped key. Its own reader is
therefore run on a mapping that records the keys it is asked for: DeepSpeed does not know the others.
"""

import json
import math
from collections.abc import Iterator, KeysView, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from shards.errors import InputError, did_you_mean
from shards.files.read import parse_json, read_regular
from trainer.recipe.problems import first_problem

#: Longest file in characters; DeepSpeed's own examples have 5,000.
_MOST_CHARACTERS = 262_144
#: Deepest nesting of objects.
_MOST_LEVELS = 15
#: Bounds of values that would otherwise overflow or exhaust the memory in the first step.
_BOUNDS = (
    ("zero_optimization", "reduce_bucket_size", 1, 2**36),
    ("zero_optimization", "allgather_bucket_size", 1, 2**36),
    ("fp16", "initial_scale_power", 0, 127),
    ("fp16", "loss_scale", 0, 2.0**127),
    ("fp16", "min_loss_scale", 0, 2.0**127),
)
_Path = tuple[str, ...]


def read_ds_file(path: Path) -> dict[str, Any]:
    """Return the object in a --ds_config file. Raises `InputError`, one line, for no JSON and for a repeated key."""
    try:
        text = read_regular(path, most=4 * _MOST_CHARACTERS).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a file of DeepSpeed keys") from error
    except UnicodeDecodeError as error:
        why = f"{error.reason} at byte {error.start}"
        raise InputError(f"{path} cannot be read, it is not JSON in UTF-8: {why}") from error
    if len(text) > _MOST_CHARACTERS:
        raise InputError(f"{path} has {len(text):,} characters, at most {_MOST_CHARACTERS:,} are read")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice = next(key for key in values if sum(name == key for name, _ in pairs) > 1)
            raise InputError(f"{path}: key {twice!r} stands twice in one object: keep one of the two")
        return values

    def no_number(word: str) -> float:
        raise InputError(f"{path}: {word} is no number of JSON: write one")

    try:
        config = parse_json(text, _MOST_LEVELS, object_pairs_hook=unique, parse_constant=no_number)
    except InputError:  # which is a ValueError
        raise
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a JSON object")
    return config


def check_ds_keys(path: Path, config: Mapping[str, Any]) -> None:
    """Raise `InputError`, one line, for a key that DeepSpeed does not know or a value that it refuses.

    path: the file, for the message.  config: its contents, batch sizes filled in or not.  Imports DeepSpeed.
    """
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError

    log = _Log()
    sizes = dict.fromkeys(("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), 1)
    values = _Recorded({**config, **sizes, "gradient_clipping": 1.0}, (), log)
    # First, since DeepSpeed would call methods of values that are no objects.
    for key in ("activation_checkpointing", "checkpoint", "data_types", "flops_profiler", "torch_autocast", "timers"):
        if not isinstance(config.get(key, {}), dict):
            raise InputError(f"{path}: {key} must be an object with keys, got {json.dumps(config[key])}")
    _check_values(path, config)
    try:
        DeepSpeedConfig(values)
    except ValidationError as error:
        raise InputError(f"{path}: {_validation_problem(error, config, log)}") from None
    except (AssertionError, DeepSpeedConfigError, ValueError) as error:
        _check_kinds(path, config, log)
        raise InputError(f"{path}: DeepSpeed refuses it: {' '.join(str(error).split())}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError):
        # A value of the wrong type may fail anywhere in the reader, which asked for it last.
        _check_kinds(path, config, log)
        raise InputError(
            f"{path}: {'.'.join(log.last)}: DeepSpeed cannot use {json.dumps(_at(config, log.last)[1])}: see its "
            "documentation of this key"
        ) from None
    for place, known in log.unknown(config):
        near = did_you_mean(place[-1], known)
        raise InputError(f"{path}: unknown key {'.'.join(place)!r}{near}: DeepSpeed would pass over it")
    _check_kinds(path, config, log)


def _check_kinds(path: Path, config: Mapping[str, Any], log: "_Log") -> None:
    """Compare the type of values that DeepSpeed does not check with that of its default."""
    for place, default in log.defaults.items():
        found, value = _at(config, place)
        if found and (wanted := _misfit(value, default)):
            raise InputError(f"{path}: {'.'.join(place)} must be {wanted}, got {json.dumps(value)}")


def _check_values(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse values at which DeepSpeed fails only when it builds the engine, or in the first step."""
    from deepspeed.runtime.config import DtypeEnum
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    dtypes = [("data_types", key) for key in ("grad_accum_dtype", "param_dtype", "buffer_dtype")]
    for place in (*dtypes, ("torch_autocast", "dtype")):
        _, dtype = _at(config, place)
        try:
            if dtype is not None:
                DtypeEnum(dtype)
        except ValueError:
            raise InputError(f"{path}: {'.'.join(place)} must be fp32, bf16 or fp16, got {json.dumps(dtype)}") from None
    for key, field in DeepSpeedZeroConfig.model_fields.items():
        extra = field.json_schema_extra
        if _at(config, ("zero_optimization", key))[0] and isinstance(extra, dict) and extra.get("deprecated"):
            raise InputError(f"{path}: zero_optimization.{key} is an old name: use {extra['new_param']}")
    for block, key, least, most in _BOUNDS:
        found, value = _at(config, (block, key))
        if found and isinstance(value, int | float) and not least <= value <= most:
            raise InputError(f"{path}: {block}.{key} must be {least:g} to {most:g}, got {json.dumps(value)}")


class _Log:
    """Log of the keys that DeepSpeed's reader asked for. whole: objects it took as a whole, validated elsewhere."""

    def __init__(self) -> None:
        self.asked: set[_Path] = set()
        self.last: _Path = ()
        self.defaults: dict[_Path, Any] = {}
        self.whole: list[_Path] = []

    def ask(self, place: _Path) -> None:
        self.asked.add(place)
        self.last = place

    def unknown(self, config: Mapping[str, Any], block: _Path = ()) -> Iterator[tuple[_Path, list[str]]]:
        """Yield the keys of `config` that were never asked for, each with the known ones of its block."""
        known = [place[-1] for place in self.asked if place[:-1] == block]
        if block in self.whole or not known or config.get("enabled") is False:
            return
        for key, value in config.items():
            if (*block, key) not in self.asked:
                yield (*block, key), known
            elif isinstance(value, dict):
                yield from self.unknown(value, (*block, key))


class _Recorded(dict[str, Any]):
    """A mapping that records the keys it is asked for, as do the mappings inside it."""

    def __init__(self, values: Mapping[str, Any], place: _Path, log: _Log) -> None:
        super().__init__(
            (key, _Recorded(value, (*place, key), log) if isinstance(value, dict) else value)
            for key, value in values.items()
        )
        self._place, self._log = place, log

    def __copy__(self) -> "_Recorded":
        return self

    def __deepcopy__(self, _memo: Any) -> "_Recorded":
        self._log.whole.append(self._place)
        return self

    def __contains__(self, key: object) -> bool:
        self._log.ask((*self._place, str(key)))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self._log.ask((*self._place, key))
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._log.ask((*self._place, key))
        self._log.defaults[*self._place, key] = default
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        self._log.whole.append(self._place)
        return super().__iter__()

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        return KeysView(self)  # whose `in` asks this mapping

    def items(self) -> Any:
        self._log.whole.append(self._place)
        return super().items()


def _validation_problem(error: ValidationError, config: Mapping[str, Any], log: _Log) -> str:
    """Describe in one line the error of one of DeepSpeed's strict models, with the place in the file."""
    place: _Path = tuple(str(part) for part in error.errors()[0]["loc"])
    # The block was taken as a whole last, or is one of the first level with such a key.
    blocks = [*reversed(log.whole), *((key,) for key, value in config.items() if isinstance(value, dict))]
    block = next((block for block in blocks if block and _at(config, (*block, *place))[0]), ())
    model = next((model for model in _models() if model.__name__ == error.title), BaseModel)
    return first_problem(error, model, "".join(f"{key}." for key in block))


def _models() -> list[type[BaseModel]]:
    from deepspeed.runtime.config_utils import DeepSpeedConfigModel

    found = [DeepSpeedConfigModel]
    for model in found:
        found += model.__subclasses__()
    return found


def _at(config: Any, place: _Path) -> tuple[bool, Any]:
    """Return True and the value at `place`, or False and None."""
    for key in place:
        if not isinstance(config, dict) or key not in config:
            return False, None
        config = config[key]
    return True, config


def _misfit(value: Any, default: Any) -> str | None:
    """Return the type of DeepSpeed's default in words where `value` has another; "auto" stands for the default."""
    if isinstance(default, dict):
        return None if isinstance(value, dict) else "an object with keys"
    if default is None or default == "auto" or value == "auto":
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        is_number = type(value) is int or (isinstance(value, float) and math.isfinite(value))
        return None if is_number else "a number"
    return "text" if isinstance(default, str) and not isinstance(value, str) else None
