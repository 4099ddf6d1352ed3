"""Check that an objective keeps its contract (models/objectives/base.py), at the start of a training.

A break would otherwise show as a hang, as gradients that are silently wrong, or as a loss that depends on the number of
ranks. What is checked costs a walk over the graph of each forward pass, so only the first steps are.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.objectives.base import Objective, Outputs
from shards.batch.fields import needed_fields
from shards.batch.types import Batch
from shards.errors import InputError
from trainer.distributed import from_first_rank, together

#: Steps of a start that are checked.
_STEPS = 2


class Contract:
    """Check one rank's micro-batches in its first steps. Raise `InputError`, which names the clause and who breaks it.

    All ranks call its methods in step; after the first steps they do nothing. repeats: whether a call of the objective
    computes what the engine's does, which is not so where the engine casts.  needs: the optional fields of a batch that
    the objective reads.
    """

    def __init__(self, objective: Objective, name: str, *, repeats: bool, needs: Collection[str] = ()) -> None:
        self._objective, self._name, self._repeats = objective, name, repeats
        self._steps_left = _STEPS
        self._attributes = [attribute for field in needed_fields(needs) for attribute in field.attributes]
        self._names: dict[str, tuple[str, ...]] = {}
        self._before: dict[str, Tensor] = {}
        self._rehearsed: dict[str, Tensor] = {}
        self._check_groups()

    def step_ended(self) -> None:
        """Count a step that was attempted."""
        self._steps_left, self._before = max(self._steps_left - 1, 0), {}

    def check_fields(self, batches: Sequence[Batch]) -> None:
        """Check that a step's micro-batches hold the optional fields that the objective reads, before it does."""
        if not (self._steps_left and self._attributes):
            return
        with together():
            for attribute in self._attributes:
                if any(getattr(batch, attribute) is None for batch in batches):
                    raise InputError(
                        f"objective {self._name} asks for batch.{attribute}, which is not there: give `needs` of its "
                        "configuration to the Collator, as trainer/assemble.py does"
                    )

    def check_counts(self, counts: Sequence[Mapping[str, float]]) -> None:
        """Check counts() of a step's micro-batches, all ranks at once: they are added up by their order."""
        if not self._steps_left:
            return
        first = from_first_rank(tuple(counts[0]))
        with together():
            for own in counts:
                self._same("the keys of counts()", own)
            if tuple(counts[0]) != first:
                self._broken(f"the keys of counts() are the same on every rank: {_list(first)}, {_list(counts[0])}")

    def rehearse(self, batch: Batch, step: int, counts: Mapping[str, float], seed: int) -> None:
        """Compute a micro-batch once more, before it is trained on, to compare with what forward() gives then."""
        if not self._steps_left:
            return
        self._before = {name: buffer.clone() for name, buffer in self._objective.named_buffers()}
        if self._repeats and self._steps_left == _STEPS and not self._rehearsed:
            torch.manual_seed(seed)
            outputs: Outputs = self._objective(batch, step, counts)
            self._rehearsed = {name: term.sum.detach() for name, term in outputs.terms.items()}

    def check_outputs(self, outputs: Outputs, counts: Mapping[str, float]) -> None:
        """Check what forward() returned for a micro-batch whose counts() are `counts` (all ranks call this)."""
        if not self._steps_left:
            return
        with together():
            self._check_terms(outputs, counts)
            self._check_parameters([term.sum for term in outputs.terms.values()])
            self._check_repeated(outputs)

    def _check_terms(self, outputs: Outputs, counts: Mapping[str, float]) -> None:
        if list(outputs.terms) != list(counts):
            self._broken(f"terms have the names and order of counts(): {_list(outputs.terms)}, not {_list(counts)}")
        for name, term in outputs.terms.items():
            if term.count != counts[name]:
                self._broken(f"a term's count is that of counts(): {name} has {term.count}, not {counts[name]}")
            if term.sum.ndim or not term.sum.is_floating_point():
                self._broken(f"a term's sum is one number: {name} is {tuple(term.sum.shape)} of {term.sum.dtype}")
        self._same("the names of watched figures", outputs.watched)
        self._same("the names of what is kept", outputs.keep)
        for name, figure in outputs.watched.items():
            if figure.sum.requires_grad:
                self._broken(f"a watched figure is detached, as it is no part of the loss: {name}")
        if outputs.keep and not self._objective.has_state:
            self._broken(
                f"what is kept is for after_step(), which is called where has_state is set: {_list(outputs.keep)}"
            )
        for what in ("row_nll", "row_tokens"):
            if {branch.name for branch in self._objective.branches} != getattr(outputs, what).keys():
                self._broken(f"{what} has the branches' names: {_list(getattr(outputs, what))}")

    def _check_repeated(self, outputs: Outputs) -> None:
        for name, buffer in self._objective.named_buffers():
            if not torch.equal(buffer, self._before[name]):
                self._broken(f"forward() changes no state, which a skipped step would keep: {name} was changed")
        rehearsed, self._rehearsed = self._rehearsed, {}
        for name, first in rehearsed.items():
            term = outputs.terms[name]
            # Kernels of other devices may add in another order. What is not finite is a skipped step's affair.
            tolerance = 1e-3 * max(term.count, 1.0)
            is_same = torch.allclose(first, term.sum.detach(), rtol=1e-3, atol=tolerance)
            if term.sum.isfinite() and not is_same:
                self._broken(
                    f"what is random follows from the slot, through torch's generator: {name} is {float(first):.6g}, "
                    f"and {float(term.sum.detach()):.6g} when it is computed again"
                )

    def _check_groups(self) -> None:
        groups = self._objective.parameter_groups()
        grouped = Counter(id(parameter) for group in groups for parameter in group.parameters)
        for name, parameter in self._objective.named_parameters():
            times = grouped[id(parameter)]
            if times != int(parameter.requires_grad):
                kind = "trained" if parameter.requires_grad else "frozen"
                self._broken(f"parameter_groups() names each trained parameter once: {name}, {kind}, is in {times}")

    def _check_parameters(self, sums: Sequence[Tensor]) -> None:
        used = {id(parameter) for parameter in _leaves(sums)}
        for name, parameter in self._objective.named_parameters():
            if parameter.requires_grad and id(parameter) not in used:
                self._broken(
                    f"every trained parameter takes part in every forward: {name} does not, and ranks that use "
                    "different ones hang: add it times zero, or freeze it"
                )

    def _same(self, what: str, names: Mapping[str, Any]) -> None:
        seen = self._names.setdefault(what, tuple(names))
        if seen != tuple(names):
            self._broken(f"{what} are the same in every micro-batch: {_list(seen)}, then {_list(names)}")

    def _broken(self, clause: str) -> None:
        raise InputError(f"objective {self._name} breaks its contract: {clause}")


def _leaves(sums: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the parameters that the graphs behind `sums` reach."""
    waiting = [tensor.grad_fn for tensor in sums if tensor.grad_fn is not None]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            yield leaf
        waiting += [parent for parent, _ in node.next_functions if parent is not None]


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
