"""Translate CUDA_VISIBLE_DEVICES for DeepSpeed's launcher, which takes numbers only, where `--ranks` is not given."""

from collections.abc import Mapping
from pathlib import Path

from shards.errors import InputError

_VARIABLE = "CUDA_VISIBLE_DEVICES"
#: A directory for each GPU of the host.
_GPUS = Path("/proc/driver/nvidia/gpus")


def launcher_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment from which DeepSpeed's launcher starts one rank a visible device.

    The launcher reads the variable as numbers of the host's devices, and on a CPU as numbers of NUMA nodes: there it is
    removed. Raises `InputError` for values at which the launcher would end with a traceback.
    """
    found = environment.get(_VARIABLE)
    if found is None:
        return dict(environment)
    numbers = _numbers(found)
    if _on_cpu(environment, plain=numbers is not None and _GPUS.is_dir()):
        return {name: value for name, value in environment.items() if name != _VARIABLE}
    if not found.strip() or found.strip() == "-1":
        raise InputError(
            f"{_VARIABLE}={found} leaves no GPU to train on: unset it, or set DS_ACCELERATOR=cpu to train on the CPU"
        )
    if numbers is None:
        raise InputError(
            f"{_VARIABLE}={found}: DeepSpeed's launcher takes devices by number only, like 0,1 (`nvidia-smi -L` lists "
            "them with their UUIDs); `torchrun launcher/train.py` takes any"
        )
    gpus = len(list(_GPUS.iterdir())) if _GPUS.is_dir() else None
    if gpus is not None and max(numbers) >= gpus:
        raise InputError(f"{_VARIABLE}={found}: this host has {gpus} GPUs, numbered from 0")
    return dict(environment)


def _numbers(text: str) -> list[int] | None:
    words = [word.strip() for word in text.split(",")]
    return [int(word) for word in words] if all(word.isascii() and word.isdigit() for word in words) else None


def _on_cpu(environment: Mapping[str, str], *, plain: bool) -> bool:
    accelerator = environment.get("DS_ACCELERATOR")
    if accelerator is not None:
        return accelerator == "cpu"
    if plain:
        return False
    from deepspeed.accelerator import get_accelerator  # its import takes seconds

    return str(get_accelerator().device_name()) == "cpu"
