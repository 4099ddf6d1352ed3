"""Read the file of DeepSpeed's keys and complete it from the recipe. Imports DeepSpeed only where a check needs it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shards.errors import InputError, did_you_mean
from shards.files.read import read_json
from trainer.ds_keys import read_ds_file
from trainer.recipe import Recipe

#: Keys the recipe owns: in a DeepSpeed file they are "auto".
_OWNED = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
#: Blocks that would compete with the recipe's sections.
_FORBIDDEN = {"optimizer": "optimizer", "scheduler": "schedule"}
#: Blocks that choose an arithmetic other than float32; `training.precision` wants all of them off but its own.
_REDUCED = ("bf16", "fp16", "torch_autocast")
#: Settings of `training.precision` where a file leaves them open, as in ds_configs/zero2_bf16 and zero2_fp16.
_TESTED: dict[str, dict[str, Any]] = {
    "bf16": {"check_grad_overflow": True},
    "fp16": {
        "loss_scale": 0,  # dynamic
        "initial_scale_power": 16,
        "loss_scale_window": 1000,
        "hysteresis": 2,
        "min_loss_scale": 1,
    },
}


def load_ds_config(path: Path, recipe: Recipe, world_size: int) -> dict[str, Any]:
    """Read DeepSpeed's keys and fill in those that the recipe owns.

    Raises `InputError` for a file that is missing or no JSON, a key that competes with the recipe, a stage other than 1
    or 2, and a precision that this device lacks or that disagrees with the recipe's.
    """
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise InputError(f"no DeepSpeed config at {path}{did_you_mean(path.name, known)}; see ds_configs/")
    config = read_ds_file(path)
    for key, section in _FORBIDDEN.items():
        if key in config:
            raise InputError(f"{path}: key {key!r} belongs to the recipe's section {section!r}: remove it here")
    for key in _OWNED:
        if config.get(key, "auto") != "auto":
            raise InputError(f'{path}: {key} must be "auto": the recipe owns it (batch.*, optimizer.gradient_clipping)')
    zero = config.get("zero_optimization")
    if not isinstance(zero, dict) or zero.get("stage") not in (1, 2):
        raise InputError(f"{path}: zero_optimization.stage must be 1 or 2")
    for key, block in (
        *((key, config.get(key, {})) for key in (*_REDUCED, "data_types")),
        ("zero_optimization.offload_optimizer", zero.get("offload_optimizer", {})),
    ):
        if not isinstance(block, dict):
            raise InputError(f"{path}: {key} must be an object, got {json.dumps(block)}")
    config |= _precision_blocks(path, config, recipe.training.precision)
    _check_device(path, precision_of(config))
    micro_batch = recipe.batch.groups_per_micro_batch * recipe.batch.group_size
    batch = recipe.batch.groups_per_step * recipe.batch.group_size
    return config | {
        "train_batch_size": batch,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": batch // (micro_batch * world_size),
        "gradient_clipping": recipe.optimizer.gradient_clipping,
        "steps_per_print": 2**31 - 1,  # the trainer reports; DeepSpeed's own lines would interleave with it
    }


def read_saved_ds_config(checkpoint: Path) -> dict[str, Any]:
    """Return the keys that a checkpoint was written with. Raises `InputError` for a damaged file."""
    path = checkpoint / "ds_config.json"
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): copy the checkpoint anew") from error
    if not isinstance(config, dict) or not all(
        isinstance(config.get(key, {}), dict) for key in (*_REDUCED, "data_types")
    ):
        raise InputError(f"{path} holds values of other types: copy the checkpoint anew")
    return config


def _check_device(path: Path, precision: str) -> None:
    """Raise `InputError` where this device lacks the precision. Imports DeepSpeed, but for fp32."""
    if precision == "fp32":
        return
    from deepspeed.accelerator import get_accelerator

    accelerator = get_accelerator()
    supported = accelerator.is_bf16_supported if precision == "bf16" else accelerator.is_fp16_supported
    if not supported():
        raise InputError(
            f"{path}: this {accelerator.device_name()} device does not support {precision}: use another config or "
            "training.precision"
        )


def _precision_blocks(path: Path, config: Mapping[str, Any], precision: str | None) -> dict[str, Any]:
    """Return the keys that decide the arithmetic, every "enabled" a bool. precision: None: as the file enables.

    Raises `InputError` where file and recipe disagree.
    """
    if "bfloat16" in config:
        raise InputError(f"{path}: 'bfloat16' is DeepSpeed's old name of 'bf16': rename it")
    blocks: dict[str, Any] = {}
    for key in _REDUCED:
        block = config.get(key, {})
        asked = block.get("enabled", "auto")
        if not isinstance(asked, bool) and asked != "auto":
            raise InputError(f'{path}: {key}.enabled must be true, false or "auto", got {json.dumps(asked)}')
        wanted = precision == key
        if precision is not None and asked not in ("auto", wanted):
            raise InputError(
                f"{path}: {key}.enabled is {json.dumps(asked)}, but the recipe's training.precision is {precision}: "
                'make it "auto" in the file, or change training.precision'
            )
        if asked == "auto" and wanted:
            blocks[key] = _TESTED[key] | block | {"enabled": True}
        elif block:
            blocks[key] = block | {"enabled": asked is True}
    if all(blocks.get(key, {}).get("enabled") for key in ("bf16", "fp16")):
        raise InputError(f"{path}: bf16 and fp16 are both enabled: leave one of them")
    if precision is not None:
        # Gradients would otherwise be sent, and added over micro-steps, in the reduced precision. bf16's 8 bits are too
        # few for adding; fp16 has 11, and its overflows are detected.
        blocks["communication_data_type"] = config.get("communication_data_type") or "fp32"
        if precision == "bf16":
            blocks["data_types"] = {"grad_accum_dtype": "fp32"} | config.get("data_types", {})
    return blocks


def precision_of(ds_config: Mapping[str, Any]) -> str:
    """Return fp32, bf16 or fp16, the precision of a resolved DeepSpeed config."""
    return next((key for key in ("bf16", "fp16") if ds_config.get(key, {}).get("enabled")), "fp32")


def arithmetic(ds_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a resolved DeepSpeed config that decide the arithmetic, with DeepSpeed's defaults.

    Two configs compute the same where these are equal.
    """
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config

    precision = precision_of(ds_config)
    values: dict[str, Any] = {}
    for key, model in (("bf16", DeepSpeedBF16Config), ("fp16", DeepSpeedFP16Config)):
        defaults = {name: field.default for name, field in model.model_fields.items()}
        values[key] = defaults | ds_config[key] if precision == key else None
    autocast = ds_config.get("torch_autocast", {})
    values["torch_autocast"] = autocast if autocast.get("enabled") else None
    values["data_types"] = {"grad_accum_dtype": precision} | ds_config.get("data_types", {})
    values["communication_data_type"] = ds_config.get("communication_data_type") or precision
    return values
