"""Save and restore the engine's tensors as named slices, which any number of ranks can divide anew.

ZeRO lays all parameters of a group end to end and gives every rank a stretch of that. A checkpoint keeps the slices of
the parameters in each stretch as `<kind>/<parameter>`, where kind is `master` (the fp32 parameter) or one of the
optimizer's own (`exp_avg`, `exp_avg_sq`). `tensors.json` lists the elements in each file, so a rank of any world size
reads only its own elements. DeepSpeed's own checkpoints cannot do so without a conversion.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shards.errors import InputError
from shards.files.read import read_json
from trainer.checkpoint.directory import INDEX
from trainer.engine import loss_scaler

_MASTER = "master"
#: Frozen parameters and buffers: whole, in rank 0's file.
_FIXED = "fixed"
_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def file_name(rank: int, world_size: int) -> str:
    """Return the name of one rank's file in a checkpoint."""
    return f"state-{rank:05d}-of-{world_size:05d}.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A rank's part of the state, copied out of the engine.

    tensors: key -> host tensor, (numel,) for a slice.  starts: key -> its first element in the flattened parameter.
    facts: identical on all ranks (shapes, other names of shared parameters, numbers of the optimizer and the scaler).
    """

    tensors: dict[str, Tensor]
    starts: dict[str, int]
    facts: dict[str, Any]

    def entry(self) -> dict[str, list[int]]:
        """Return this rank's part of the index: key -> [first element, number of elements]."""
        return {key: [start, self.tensors[key].numel()] for key, start in self.starts.items()}


def take_snapshot(engine: Any, rank: int, before: Snapshot | None) -> Snapshot:
    """Copy this rank's part of the state to the host, into the memory of the snapshot `before` where there is one."""
    tensors: dict[str, Tensor] = {}
    starts: dict[str, int] = {}

    def keep(key: str, tensor: Tensor) -> None:
        old = before.tensors.get(key) if before else None
        if old is None or old.shape != tensor.shape or old.dtype != tensor.dtype:
            old = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        tensors[key] = old.copy_(tensor.detach(), non_blocking=True)

    for name, slice_ in _slices(engine):
        for kind, tensor in _kinds(engine, slice_):
            key = f"{kind}/{name}"
            keep(key, tensor)
            starts[key] = slice_.lp_fragment_address.start
    if rank == 0:
        for name, tensor in _fixed(engine.module).items():
            keep(f"{_FIXED}/{name}", tensor.reshape(-1))
            starts[f"{_FIXED}/{name}"] = 0
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # the copies were only begun
    return Snapshot(tensors=tensors, starts=starts, facts=_facts(engine))


def write_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write a rank's part. Raises `OSError`, for a full disk too."""
    try:
        save_file(snapshot.tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # for a full disk
        raise OSError(str(error)) from error
    # Give the file the directory's permissions; safetensors writes 0600.
    path.chmod(path.parent.stat().st_mode & 0o666)


def restore(engine: Any, checkpoint: Path) -> None:
    """Put the state of `checkpoint`, written by any number of ranks, into the engine (all ranks call this)."""
    saved = _Saved(checkpoint)
    saved.check_names(engine.module)
    stepped = bool(saved.facts["optimizer"])
    if stepped:
        _make_optimizer_state(engine)
    with torch.no_grad():
        for name, slice_ in _slices(engine):
            for kind, tensor in _kinds(engine, slice_):
                if kind == _MASTER or stepped:
                    saved.read_into(f"{kind}/{name}", slice_.lp_fragment_address.start, tensor)
                else:
                    tensor.zero_()
        for name, tensor in _fixed(engine.module).items():
            saved.read_into(f"{_FIXED}/{name}", 0, tensor.view(-1))
    _restore_numbers(engine, saved.facts)
    # From the masters to the parameters that compute, in their precision, on all ranks.
    engine.optimizer.update_lp_params()


def model_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the objective's state dict in `checkpoint`: the fp32 masters, without the optimizer's state."""
    saved = _Saved(checkpoint)
    weights = {}
    for name, (shape, dtype) in saved.facts["parameters"].items():
        flat = torch.empty(shape, dtype=getattr(torch, dtype)).view(-1)
        kind = _FIXED if f"{_FIXED}/{name}" in saved.places else _MASTER
        saved.read_into(f"{kind}/{name}", 0, flat)
        weights[name] = flat.view(shape)
    return weights | {alias: weights[name] for alias, name in saved.facts["aliases"].items()}


class _Saved:
    """Slices of a checkpoint. places: key -> (first element, number of elements, file) in order."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self.places: dict[str, list[tuple[int, int, str]]] = {}
        try:
            index = read_json(checkpoint / INDEX)
            self.facts: dict[str, Any] = index["facts"]
            for file, entries in index["files"].items():
                for key, (start, numel) in entries.items():
                    self.places.setdefault(key, []).append((_count(start), _count(numel), file))
            for shape, dtype in self.facts["parameters"].values():
                if not isinstance(getattr(torch, dtype), torch.dtype):
                    raise TypeError(f"{dtype!r} is no precision")
                for size in shape:
                    _count(size)
            if strange := [name for name in self.facts["aliases"].values() if name not in self.facts["parameters"]]:
                raise LookupError(f"an alias is of {strange[0]!r}, which is no parameter")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{checkpoint / INDEX} is not one of ours ({error!r}): copy the checkpoint anew"
            ) from error
        self._open: dict[str, Any] = {}

    def read_into(self, key: str, start: int, to: Tensor) -> None:
        """Fill the flat `to` with the elements from `start` on."""
        end, filled = start + to.numel(), 0
        for first, numel, file in self.places.get(key, ()):
            begin, stop = max(start, first), min(end, first + numel)
            if begin < stop:
                part = self._file(file).get_slice(key)[begin - first : stop - first]
                to[begin - start : stop - start].copy_(part)
                filled += stop - begin
        if filled != to.numel():
            raise InputError(f"{self._checkpoint} holds {filled} of the {to.numel()} elements of {key} from {start} on")

    def _file(self, name: str) -> Any:
        if name not in self._open:
            try:
                self._open[name] = safe_open(self._checkpoint / name, framework="pt")
            except (OSError, SafetensorError) as error:
                raise InputError(f"{self._checkpoint / name} cannot be read: {error}") from error
        return self._open[name]

    def check_names(self, module: torch.nn.Module) -> None:
        now, before = _parameters(module), self.facts["parameters"]
        for name in sorted(now.keys() | before.keys()):
            if name not in now or name not in before or now[name][0] != before[name][0]:
                raise InputError(
                    f"{self._checkpoint} is of another network: {name} is {before.get(name, ['absent'])[0]} there and "
                    f"{now.get(name, ['absent'])[0]} here"
                )


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise TypeError(f"{value!r:.80} is no number of elements")
    return value


def _slices(engine: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parameters of which this rank holds a slice, with DeepSpeed's record of its elements."""
    for name, parameter in engine.module.named_parameters():
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is not None:
            yield name, mapping


def _kinds(engine: Any, slice_: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the master and, after the first optimizer step, the optimizer's tensors of one slice."""
    yield _MASTER, slice_.hp_fragment.data
    # Not DeepSpeed's `optim_fragment`: 0.19 links it after the first of several parameter groups has stepped.
    (stretch,) = engine.optimizer.optimizer.param_groups[slice_.param_group_index]["params"]
    address = slice_.hp_fragment_address
    for kind, tensor in engine.optimizer.optimizer.state.get(stretch, {}).items():
        if torch.is_tensor(tensor) and tensor.shape == stretch.shape:
            yield kind, tensor.view(-1).narrow(0, address.start, address.numel)


def _fixed(module: torch.nn.Module) -> dict[str, Tensor]:
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in _distinct(module).items() if name not in trained}


def _distinct(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return the state dict, every tensor once, under its name in `named_parameters`."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    state = module.state_dict(keep_vars=True)
    return {name: tensor.data for name, tensor in state.items() if names.get(id(tensor), name) == name}


def _parameters(module: torch.nn.Module) -> dict[str, list[Any]]:
    """Return name -> [shape, dtype as saved]."""
    fixed = _fixed(module)
    return {
        name: [list(tensor.shape), str(tensor.dtype if name in fixed else torch.float32).removeprefix("torch.")]
        for name, tensor in _distinct(module).items()
    }


def _facts(engine: Any) -> dict[str, Any]:
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    state = engine.module.state_dict(keep_vars=True)
    scaler, autocast = loss_scaler(engine), _autocast_scaler(engine)
    return {
        "parameters": _parameters(engine.module),
        "aliases": {name: names[id(t)] for name, t in state.items() if names.get(id(t), name) != name},
        "optimizer": [_numbers(state) for state in _states(engine)],
        "loss_scaler": {key: getattr(scaler, key) for key in _SCALER} if scaler else None,
        "autocast_scaler": autocast.state_dict() if autocast is not None else None,
    }


def _autocast_scaler(engine: Any) -> Any | None:
    """Return torch's own scaler, where DeepSpeed's torch_autocast runs in fp16."""
    return getattr(engine.optimizer, "torch_autocast_gradscaler", None)


def _states(engine: Any) -> list[Mapping[str, Any]]:
    """Return the optimizer's state of every parameter group's stretch; none before the first step."""
    optimizer = engine.optimizer.optimizer
    stretches = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [optimizer.state[parameter] for parameter in stretches if optimizer.state.get(parameter)]


def _numbers(state: Mapping[str, Any]) -> dict[str, float]:
    """Return the scalars of a state, such as the steps taken."""
    return {key: float(value) for key, value in state.items() if not torch.is_tensor(value) or value.ndim == 0}


def _make_optimizer_state(engine: Any) -> None:
    """Make a new optimizer's state by one step of zero gradients at learning rate 0."""
    if _states(engine):
        return
    optimizer = engine.optimizer.optimizer
    rates = [group["lr"] for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = [parameter.grad for parameter in parameters]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, gradient in zip(parameters, before, strict=True):
        parameter.grad = gradient
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _restore_numbers(engine: Any, facts: Mapping[str, Any]) -> None:
    states = _states(engine)
    for state, numbers in zip(states, facts["optimizer"] or [{}] * len(states), strict=True):
        assert isinstance(state, dict)
        for key in _numbers(state):
            value = numbers.get(key, 0.0)
            if torch.is_tensor(state[key]):
                state[key].fill_(value)
            else:
                state[key] = type(state[key])(value)
    scaler, autocast = loss_scaler(engine), _autocast_scaler(engine)
    if autocast is not None and facts["autocast_scaler"] is not None:
        autocast.load_state_dict(facts["autocast_scaler"])
    if scaler is not None and facts["loss_scaler"] is not None:
        for key, value in facts["loss_scaler"].items():
            setattr(scaler, key, value)
