"""Define the interface between the trainer and an objective.

The trainer minimises  J = sum over terms of  weight * (sum over the global batch) / (count over the global batch)
where the global batch is all ranks and all accumulation micro-steps. An objective therefore returns sums and
counts, never means, and J depends neither on the world size nor on the accumulation.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from models.arranged import Arranged
from models.network import Network, by_row
from models.sharing import Text
from shards.batch.types import Batch
from shards.directions import DirectionKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One summand of the loss on one micro-batch."""

    sum: Tensor  # scalar, float32, differentiable
    count: float  # what it is averaged over: target tokens or anchors of this micro-batch
    weight: float  # its factor in J; may depend on the step


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """A way in which an objective reads examples, such as a teacher or a student. Metrics go by its name.

    kinds: of the directions (shards.directions.direction_kind) whose own NLL is that of this branch.
    """

    name: str
    kinds: frozenset[DirectionKind]


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A figure that is reported and no part of J, on one micro-batch: its sum over `count` things."""

    sum: Tensor  # scalar, detached
    count: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Parameters that are trained at `factor` times the schedule's learning rate."""

    parameters: Sequence[nn.Parameter]
    factor: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """Outputs of one forward pass. `row_nll` and `row_tokens` have the branches' names as keys, each (B,) float32.

    row_nll: detached sum of the plain -log p of a row's summary, in nats; zero where a branch did not train on
    the row (a monolingual row has no student, a placeholder has neither). row_tokens: the tokens summed over.
    real_tokens: tokens of the texts that are encoded and the summaries that are decoded, shared ones once.
    computed_tokens: the places that self-attention computed for them; what is more is padding (linear layers compute
    none).
    scalars: what follows from the step alone, such as a term's weight.  watched: measured figures, averaged over the
    steps and ranks of a logging interval. Their names, and those of the terms, are the same in every micro-batch.
    keep: what `Objective.after_step` is to receive of each row, (B, ...) in the batch's order; names, trailing shapes
    and dtypes are the same in every micro-batch and on every rank. A placeholder's row holds anything.
    """

    terms: dict[str, Term]
    row_nll: dict[str, Tensor]
    row_tokens: dict[str, Tensor]
    scalars: dict[str, float]
    real_tokens: int
    computed_tokens: int
    watched: dict[str, Watched] = field(default_factory=dict)
    keep: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        arranged: Arranged,
        terms: dict[str, Term],
        *,
        nll_T: Tensor | None = None,
        branches: Sequence[Branch] = (),
        scalars: Mapping[str, float] = MappingProxyType({}),
        watched: Mapping[str, Watched] = MappingProxyType({}),
        keep: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> "Outputs":
        """Return outputs with the tokens of what was arranged, and `nll_T` of its target tokens by row for `branches`.

        nll_T: as `Network.token_loss` gives it; only where there are branches.
        """
        stream = arranged.main
        ones_T = None if nll_T is None else torch.ones_like(nll_T)

        def rows(value_T: Tensor | None) -> dict[str, Tensor]:
            return {} if value_T is None else {branch.name: by_row(value_T, stream, branch.name) for branch in branches}

        return cls(
            terms=terms,
            row_nll=rows(nll_T),
            row_tokens=rows(ones_T),
            scalars=dict(scalars),
            real_tokens=arranged.real_tokens,
            computed_tokens=arranged.computed_tokens,
            watched=dict(watched),
            keep=dict(keep),
        )


class Objective(nn.Module, ABC):
    """Base class of a paper's objective: a module around the network that may hold parameters of its own.

    Every parameter takes part in every forward, whatever the batch holds (masked, multiplied by zero): ranks
    that use different parameters in a step hang or misalign gradient buckets.

    An optional field of `Batch` is there where `needs` of the objective's configuration names it, else None.
    """

    network: Network
    #: Frozen networks by name, in eval mode, on the device and in the precision of `network`. A mapping and no module,
    #: so that neither checkpoints nor the optimizer nor `train()` find them. Read them under `torch.no_grad`.
    references: Mapping[str, Network] = MappingProxyType({})
    #: The same on all ranks.
    branches: tuple[Branch, ...]
    #: What summaries are written from in validation, with the images (`Network.row_nll`); as its configuration says. An
    #: objective without branches trains no writing, and has no held-out NLL.
    reads: Text = "source"
    #: Whether a forward pass exchanges something with the other ranks, and so waits for them.
    waits_for_ranks: bool = False
    #: Whether the objective has state of its own, and `after_step` is called: that costs a few collectives a step.
    has_state: bool = False
    #: Names of what `measure` gives, the same on all ranks, and the kind of the held-out examples that it reads.
    measured: tuple[str, ...] = ()
    measured_kind: DirectionKind = "mxls"

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """Return `Term.count` of every term from the batch alone, before the first forward of a global batch."""

    @abstractmethod
    def flops(self, batch: Batch) -> int:
        """Floating-point operations of the matrix products that training on `batch` (on the host) takes, forward and
        backward: what is real, and what is shared once (models/flops.py)."""

    @abstractmethod
    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Return the terms of a batch on the host; tensors go to the device here.

        step: optimizer steps so far.  counts: what `counts` returned for this batch.
        """

    def products(self) -> dict[str, Network]:
        """Return the networks that the training is for, by name. The first one is evaluated and exported."""
        return {"model": self.network}

    @property
    def product(self) -> Network:
        """Return the first of `products`."""
        return next(iter(self.products().values()))

    def parameter_groups(self) -> list[Group]:
        """Return every trained parameter in exactly one group. Biases and norms are not decayed in any of them."""
        return [Group(parameters=[parameter for parameter in self.parameters() if parameter.requires_grad])]

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        """Change the objective's own state, once per *taken* optimizer step, on all ranks with the same arguments.

        step: optimizer steps so far, this one included.  means: of every watched figure over the global batch; one of
        count 0 is absent.  kept: `Outputs.keep` of the global batch's real rows in slot order, (rows, ...) on the
        device: as many as were read, so perhaps none. Gradients are off.

        State is registered buffers of constant shape, which a checkpoint holds; float ones stay in their precision.
        Nothing random: the generator differs between ranks here. `forward` may read the state but not change it, so
        that all micro-batches of a step see the same.
        """

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Measure figures of the objective on a batch of held-out examples of `measured_kind`, beside their NLL.

        name of `measured` -> (2,) float64, a sum and the count that it is averaged over. No gradients. `batch` is on
        the host.
        """
        return {}
