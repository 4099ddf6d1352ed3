"""The DeepSpeed engine around an objective: keys completed from the recipe, one optimizer, checks kept on."""

import json
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator

from models.objectives.base import Objective
from shards.errors import InputError, did_you_mean
from trainer.recipe import Recipe

#: Keys the recipe owns: in a DeepSpeed file they are "auto".
_OWNED = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
#: Blocks that would compete with the recipe's.
_FORBIDDEN = {"optimizer": "optimizer", "scheduler": "schedule"}


def load_ds_config(path: Path, recipe: Recipe, world_size: int) -> dict[str, Any]:
    """Read DeepSpeed's keys and fill in those that the recipe owns.

    Raises `InputError` for a file that is missing or no JSON, a key that competes with the recipe, a
    stage other than 1 or 2, or a precision that this device lacks.
    """
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise InputError(f"no DeepSpeed config at {path}{did_you_mean(path.name, known)}; see ds_configs/")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a JSON object")
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
        ("bf16", config.get("bf16", {})),
        ("fp16", config.get("fp16", {})),
        ("zero_optimization.offload_optimizer", zero.get("offload_optimizer", {})),
    ):
        if not isinstance(block, dict):
            raise InputError(f"{path}: {key} must be an object, got {json.dumps(block)}")
    accelerator = get_accelerator()
    for key, supported in (("fp16", accelerator.is_fp16_supported), ("bf16", accelerator.is_bf16_supported)):
        block = config.get(key, {})
        if block.get("enabled") and not supported():
            raise InputError(
                f"{path}: this {accelerator.device_name()} device does not support {key}: use another config"
            )
    micro_batch = recipe.batch.groups_per_micro_batch * recipe.batch.group_size
    batch = recipe.batch.groups_per_step * recipe.batch.group_size
    return config | {
        "train_batch_size": batch,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": batch // (micro_batch * world_size),
        "gradient_clipping": recipe.optimizer.gradient_clipping,
        "steps_per_print": 2**31 - 1,  # the trainer reports; DeepSpeed's own lines would interleave with it
    }


def build_engine(objective: Objective, recipe: Recipe, ds_config: dict[str, Any]) -> Any:
    """Wrap `objective` for training. The optimizer is AdamW, on the CPU where DeepSpeed offloads it."""
    settings = recipe.optimizer
    offload = ds_config["zero_optimization"].get("offload_optimizer", {}).get("device", "none") != "none"
    decayed = [p for p in objective.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in objective.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer: torch.optim.Optimizer
    if offload:
        from deepspeed.ops.adam import DeepSpeedCPUAdam  # compiled at its first use, so only where it is needed

        optimizer = DeepSpeedCPUAdam(
            groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, adamw_mode=True
        )
    else:
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, config=ds_config)
    # DeepSpeed looks for non-finite gradients (over all ranks, before the optimizer) in half precision
    # only. A poisoned fp32 step would be applied, so the check is on for every precision.
    engine.optimizer.check_grad_overflow = True
    return engine
