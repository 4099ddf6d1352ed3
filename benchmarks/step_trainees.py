"""Run the steps that `benchmarks.step` times: ours through the real engine, and the plain one.

Each trains the batches it is given, one optimizer step a batch, and says what the step's parts took. Shape suffixes as
in shards/schema.py.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import deepspeed.utils
import torch

from benchmarks.plain_d2tv import PlainD2TV
from benchmarks.step_shapes import LANGUAGES, Lengths, network_config, vocabulary
from models.arrangement import Arrangement
from models.early_fusion import network_type
from models.flops import BackboneSizes
from models.network import Network
from models.objectives import OBJECTIVES
from models.objectives.base import Objective, Outputs
from models.objectives.config import ObjectiveConfig
from models.objectives.d2tv import D2TV, D2TVConfig, arrange, step_flops
from models.synthetic import EOS_ID, PAD_ID
from shards.batch.types import Batch, StreamBatch
from trainer.distributed import join, sum_over_ranks
from trainer.ds_config import load_ds_config
from trainer.engine import build_engine
from trainer.extensions import own_inductor_cache
from trainer.host import keep_freed_memory
from trainer.loop import total_loss
from trainer.own_state import OwnState
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.telemetry.totals import Totals

#: The variant that is MMS+MXLS.
TWO_BRANCH = "two_branch"
#: Of an objective that classifies.
LABELS = ("no", "yes")
_DS_CONFIGS = Path(__file__).resolve().parents[1] / "ds_configs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """Settings of a trainee."""

    shape: str
    precision: str  # fp32, bf16
    device: str  # cpu, cuda
    lengths: Lengths
    rows: int  # of a micro-batch
    compile: bool = False
    objective: str | None = None  # ours: what to train, of models/objectives or `TWO_BRANCH`; None: variants of D2TV


def settings_of(objective: str) -> ObjectiveConfig:
    """Return the default settings of `TWO_BRANCH` or an objective, the first choice where there is no default."""
    if objective == TWO_BRANCH:
        return D2TVConfig(distillation="none", contrast=False)
    config = OBJECTIVES[objective]
    choices = {key: field.annotation for key, field in config.model_fields.items() if field.is_required()}
    values: dict[str, Any] = {key: get_args(annotation)[0] for key, annotation in choices.items()}
    if "labels" in config.from_corpus:
        values["labels"] = LABELS
    return config.model_validate(values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Seconds of a step's parts."""

    forward: float = 0.0
    backward: float = 0.0
    optimizer: float = 0.0

    def __add__(self, other: "Parts") -> "Parts":
        return Parts(
            forward=self.forward + other.forward,
            backward=self.backward + other.backward,
            optimizer=self.optimizer + other.optimizer,
        )


class Clock:
    """Seconds between calls. apart: wait for the device each time, so that what it works off counts where it began."""

    def __init__(self, device: str, apart: bool) -> None:
        self._wait: Callable[[], None] = torch.cuda.synchronize if apart and device == "cuda" else lambda: None
        self._last = self._now()

    def lap(self) -> float:
        before, self._last = self._last, self._now()
        return self._last - before

    def _now(self) -> float:
        self._wait()
        return time.perf_counter()


class Ours:
    """The objective in DeepSpeed's engine, as trainer/loop.py trains it, its counts over ranks and its totals too."""

    def __init__(self, setup: Setup, ranks: Ranks) -> None:
        deepspeed.utils.logger.setLevel(logging.WARNING)
        self.setup, self.ranks = setup, ranks
        recipe = _recipe(setup, ranks.world_size)
        file = "zero2_bf16.json" if setup.precision == "bf16" else "zero2_cpu.json"
        ds_config = load_ds_config(_DS_CONFIGS / file, recipe, ranks.world_size)
        self.device = join(ranks)
        keep_freed_memory(self.device)
        torch.manual_seed(0)
        network, references = _network(setup), dict[str, Network]()
        if setup.objective is None:
            variants = _variants_of_d2tv(network)
        else:
            settings = settings_of(setup.objective)
            references = {name: _network(setup).eval().requires_grad_(False) for name in settings.reference_names}
            variants = {setup.objective: settings.build(network, references)}
        self.module = _Variants(network, variants)
        self.engine = build_engine(self.module, recipe, ds_config)
        weight = network.backbone.head.weight
        for reference in references.values():  # no part of the module: the engine has moved and cast none
            reference.to(weight.device, weight.dtype)
        self.own_states = {name: OwnState(variant, self.device) for name, variant in variants.items()}
        self.totals: dict[str, Totals] = {}
        self.steps = 0

    def flops(self, batch: Batch, variant: str) -> int:
        """Of a training step of the variant on the batch's real tokens."""
        name, _, _ = variant.partition("@")
        objective: Any = self.module.variants[name]
        operations: int = objective.flops(batch)
        return operations

    def train(self, batch: Batch, variant: str, apart: bool) -> Parts:
        """One step of a variant; `variant` may say how many languages there are: d2tv@44."""
        name, _, languages = variant.partition("@")
        self.module.chosen = name
        clock = Clock(self.setup.device, apart)
        own = self.module.counts(batch)
        everywhere = torch.tensor(list(own.values()), dtype=torch.float64, device=self.device)
        counts = dict(zip(own, sum_over_ranks(everywhere).tolist(), strict=True))
        outputs: Outputs = self.engine(batch, self.steps, own)
        loss = total_loss(outputs, counts)
        forward = clock.lap()
        self.engine.backward(self.ranks.world_size * loss, scale_wrt_gas=False)
        backward = clock.lap()
        self.engine.step()
        self.own_states[name].add(outputs, _numbered(batch))
        self.own_states[name].step_ended(taken=True, step=self.steps + 1)
        if variant not in self.totals:
            branches, watched = self.module.variants[name].branches, tuple(outputs.watched)
            size = int(languages or LANGUAGES)
            self.totals[variant] = Totals(tuple(outputs.terms), branches, size, self.device, watched=watched)
        self.totals[variant].add_micro_batch(outputs, batch, loss, 0)
        self.totals[variant].add_step(seconds=0.0)
        self.steps += 1
        return Parts(forward=forward, backward=backward, optimizer=clock.lap())


class Plain:
    """benchmarks/plain_d2tv.py with torch's AdamW; in bf16 its parameters are bf16."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.device = setup, torch.device(setup.device)
        torch.manual_seed(0)
        self.config = network_config(setup.shape)
        self.model = PlainD2TV(
            self.config,
            vocabulary(setup.shape),
            pad_id=PAD_ID,
            document=setup.lengths.document,
            summary=setup.lengths.summary,
        )
        self.model.to(self.device, torch.bfloat16 if setup.precision == "bf16" else torch.float32)
        self.sizes = BackboneSizes.of(self.model.mt5.config)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=2e-5)
        self.steps = 0

    def flops(self, batch: Batch, variant: str) -> int:
        """As `Ours.flops`: padding is no use to anyone."""
        return step_flops(
            arrange(Arrangement(batch, share=False), batch, D2TVConfig()), D2TVConfig(), self.config, self.sizes
        ).training

    def train(self, batch: Batch, variant: str, apart: bool) -> Parts:
        assert variant == "d2tv"
        clock = Clock(self.setup.device, apart)
        loss = self.model(batch.to(self.device), self.steps)
        forward = clock.lap()
        loss.backward()
        backward = clock.lap()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        return Parts(forward=forward, backward=backward, optimizer=clock.lap())


class _Variants(Objective):
    """Objectives around one network, so that several are timed on the same weights in the same memory."""

    variants: Any  # a ModuleDict of objectives

    def __init__(self, network: Network, variants: Mapping[str, Objective]) -> None:
        super().__init__()
        self.network, self.chosen = network, next(iter(variants))
        self.branches = variants[self.chosen].branches
        self.variants = torch.nn.ModuleDict(variants)

    def counts(self, batch: Batch) -> dict[str, float]:
        counts: dict[str, float] = self._objective().counts(batch)
        return counts

    def flops(self, batch: Batch) -> int:
        operations: int = self._objective().flops(batch)
        return operations

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        outputs: Outputs = self._objective()(batch, step, counts)
        return outputs

    def _objective(self) -> Any:
        return self.variants[self.chosen]


def _network(setup: Setup) -> Network:
    config = network_config(setup.shape)
    if setup.objective is not None and settings_of(setup.objective).early:
        config = config.model_copy(update={"fusion": config.fusion.model_copy(update={"kind": "early"})})
    network = network_type(config)(
        config, vocabulary(setup.shape), PAD_ID, EOS_ID, marks_texts=setup.shape == "mbart-50"
    )
    if setup.compile:
        own_inductor_cache()
    network.run_layers(activation_checkpointing=False, compile=setup.compile)
    return network


def _variants_of_d2tv(network: Network) -> dict[str, Objective]:
    """Return the method, its two branches alone, and rows that share nothing."""
    d2tv, unshared = D2TV(D2TVConfig(), network), D2TV(D2TVConfig(), network, share=False)
    unshared.project = d2tv.project
    return {"d2tv": d2tv, TWO_BRANCH: settings_of(TWO_BRANCH).build(network), "unshared": unshared}


def _numbered(batch: Batch) -> StreamBatch:
    """Return the batch as one of the stream, its rows in slot order."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return StreamBatch(**values, slot_B=torch.arange(len(batch)))


def _recipe(setup: Setup, world_size: int) -> Recipe:
    return Recipe.model_validate(
        {
            "run": "unused",
            "corpus": {"path": "unused"},
            "network": network_config(setup.shape).model_dump(),
            "objective": {"name": "d2tv"},
            "batch": {"group_size": setup.rows, "groups_per_step": world_size, "groups_per_micro_batch": 1},
            "optimizer": {"learning_rate": 2e-5},
            "training": {"steps": 1},
        }
    )
