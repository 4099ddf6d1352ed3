"""Wrap an objective in the DeepSpeed engine: one optimizer, checks kept on."""

import os
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.config import DeepSpeedConfigError
from deepspeed.runtime.zero.utils import ZeRORuntimeException

from models.objectives.base import Objective
from shards.errors import InputError, out_of_memory
from trainer.recipe import Recipe


def build_engine(objective: Objective, recipe: Recipe, ds_config: dict[str, Any]) -> Any:
    """Wrap `objective` for training. The optimizer is AdamW, on the CPU where DeepSpeed offloads it.

    Its groups carry `factor`, what the schedule's learning rate is multiplied by.
    """
    settings = recipe.optimizer
    offload = ds_config["zero_optimization"].get("offload_optimizer", {}).get("device", "none") != "none"
    groups = _optimizer_groups(objective, settings.weight_decay)
    optimizer: torch.optim.Optimizer
    if offload:
        from deepspeed.ops.adam import DeepSpeedCPUAdam  # compiled at its first use, so only where it is needed

        optimizer = DeepSpeedCPUAdam(
            groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, adamw_mode=True
        )
    else:
        # One pass over the parameters instead of some ten: 9 times faster on a CPU.
        optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True
        )
    _import_muon()
    try:
        engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, config=ds_config)
    except (AssertionError, DeepSpeedConfigError, NotImplementedError, ValueError, ZeRORuntimeException) as error:
        # Keys that do not go together, or not with this device: what can be known before, check_ds_keys refuses.
        raise InputError(f"DeepSpeed refuses --ds_config: {' '.join(str(error).split())}") from error
    except (MemoryError, RuntimeError) as error:
        if (why := out_of_memory(error)) is None:
            raise
        raise InputError(f"the optimizer's state does not fit into memory ({why}): choose a smaller network") from error
    # DeepSpeed looks for non-finite gradients (over all ranks, before the optimizer) in half precision
    # only. A poisoned fp32 step would be applied, so the check is on for every precision.
    engine.optimizer.check_grad_overflow = True
    scaler = loss_scaler(engine)
    if scaler is not None:
        # At its smallest scale it would end the process; the trainer counts such steps, and ends the run with a reason.
        scaler.raise_error_at_min_scale = False
    return engine


def _import_muon() -> None:
    """Import DeepSpeed's Muon, which no run trains with, as it is written: without compiling its kernels.

    DeepSpeed imports it whenever it makes an engine, and `torch.compile` above the kernels would import Inductor: half
    of what a rank's start costs after its imports.
    """
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        from deepspeed.runtime.zero.muon import muon_optimizer  # noqa: F401
    finally:
        if before is None:
            del os.environ["TORCHDYNAMO_DISABLE"]
        else:
            os.environ["TORCHDYNAMO_DISABLE"] = before


def _optimizer_groups(objective: Objective, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups: of each of the objective's, the matrices, and what is not decayed."""
    groups: list[dict[str, Any]] = []
    for group in objective.parameter_groups():
        for decay, is_matrix in ((weight_decay, True), (0.0, False)):
            parameters = [parameter for parameter in group.parameters if (parameter.ndim > 1) is is_matrix]
            if parameters:  # DeepSpeed cannot flatten a group of none
                groups.append({"params": parameters, "weight_decay": decay, "factor": group.factor})
    return groups


def casts(engine: Any) -> bool:
    """Return True if a forward pass of the engine computes in another precision than one of its module."""
    return bool(engine.torch_autocast_enabled())


def loss_scaler(engine: Any) -> Any | None:
    """Return fp16's dynamic loss scaler (`cur_scale`, `min_scale`); None where the loss is not scaled so."""
    scaler = getattr(engine.optimizer, "loss_scaler", None)  # stage 1 in bf16 has another optimizer, without one
    return scaler if scaler is not None and scaler.dynamic else None


def loss_scale(engine: Any) -> float | None:
    """Return fp16's dynamic loss scale, None without one."""
    scaler = loss_scaler(engine)
    return float(scaler.cur_scale) if scaler else None
