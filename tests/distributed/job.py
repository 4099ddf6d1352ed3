"""One rank of a distributed test: `python -m tests.distributed.job SPEC.json`, started by `run_job`.

Trains some steps through the real trainer and engine, and leaves what it saw in `<out>/rank-<r>.pt`: a list's
entry an attempt.
"""

import dataclasses
import importlib
import json
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import safe_get_full_grad

from trainer.assemble import assemble
from trainer.distributed import join, leave
from trainer.engine import loss_scaler
from trainer.events import Event
from trainer.interval import Interval, RankFacts
from trainer.plan import plan_run
from trainer.ranks import ranks_from_environment
from trainer.recipe import load_recipe
from trainer.telemetry.prometheus import endpoint
from trainer.telemetry.totals import Totals


class SlowLoader:
    """A loader whose every batch takes longer."""

    def __init__(self, loader: Any, seconds: float) -> None:
        self._loader, self._seconds = loader, seconds

    def __next__(self) -> Any:
        time.sleep(self._seconds)
        return next(self._loader)

    def close(self) -> None:
        self._loader.close()


class Sink:
    """Keeps the events of a rank."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def notify(self, event: Event) -> None:
        self.events.append(event)


def main() -> None:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    if spec["fp16_anyway"]:
        # DeepSpeed says no where a processor has no fp16 instructions, and so do we to users: torch computes it by
        # way of float32, slowly. What it computes is the same, so the loss scaling can be tested anywhere.
        get_accelerator().is_fp16_supported = lambda: True
        # The product that MFU is measured against would take ten seconds of such arithmetic.
        endpoint.matmul_peak = partial(endpoint.matmul_peak, side=64)
    if spec["objective"] is not None:
        importlib.import_module(spec["objective"]).register()
    ranks = ranks_from_environment()
    plan = plan_run(load_recipe(spec["recipe"], spec["overrides"]), Path(spec["ds_config"]), ranks)
    torch.set_num_threads(1)
    device = join(ranks)
    sink = Sink()
    trainer = assemble(plan, device, sinks=[sink]).trainer
    engine, objective = trainer.engine, trainer.engine.module
    slots: list[list[int]] = []
    losses: list[dict[str, float]] = []
    scales: list[float] = []
    facts: list[list[dict[str, float]]] = []
    buffers: list[dict[str, torch.Tensor]] = []
    first_gradient: dict[str, torch.Tensor] = {}
    forward, step, reduce = engine.forward, engine.step, Totals.reduce

    def watch_forward(batch: Any, *rest: Any) -> Any:
        slots.append(batch.slot_B.tolist())
        outputs = forward(batch, *rest)
        if [ranks.rank, trainer.attempts] not in spec["poisoned"]:
            return outputs
        if spec["poisoned_once"]:
            spec["poisoned"].remove([ranks.rank, trainer.attempts])
        spoilt = {name: dataclasses.replace(term, sum=term.sum * math.nan) for name, term in outputs.terms.items()}
        return dataclasses.replace(outputs, terms=spoilt)

    def watch_step() -> None:
        if engine.is_gradient_accumulation_boundary() and not first_gradient:
            for name, parameter in objective.named_parameters():
                gradient = safe_get_full_grad(parameter)
                assert gradient is not None, name
                first_gradient[name] = gradient.clone()
        step()

    def watch_reduce(totals: Totals, own: RankFacts) -> Interval:
        interval = reduce(totals, own)
        losses.append(interval.loss)
        facts.append([dataclasses.asdict(rank) for rank in interval.ranks])
        return interval

    engine.forward, engine.step, Totals.reduce = watch_forward, watch_step, watch_reduce
    if (slow := spec["slow_loader"]) and slow[0] == ranks.rank:
        trainer.loader = SlowLoader(trainer.loader, slow[1])
    if (slow := spec["slow_forward"]) and slow[0] == ranks.rank:
        objective.register_forward_pre_hook(lambda *_: time.sleep(slow[1]))
    for _ in range(spec["steps"]):
        before = len(losses)
        trainer.train_step()
        trainer.log()
        if len(losses) == before:
            losses.append({"mms": 0.0})  # it was skipped, and has none
        buffers.append({name: buffer.clone() for name, buffer in objective.named_buffers()})
        if trainer.step in spec["save_at"]:
            trainer.save_now()
        scaler = loss_scaler(engine)
        scales.append(float(scaler.cur_scale) if scaler else 1.0)
    if spec["save"]:
        trainer.save_now()
    trainer.close()
    weights = {name: parameter.detach().float().clone() for name, parameter in objective.named_parameters()}
    torch.save(
        {
            "attempts": trainer.attempts,
            "slots": slots,
            "losses": losses,
            "facts": facts,
            "scales": scales,
            "buffers": buffers,
            "gradient": first_gradient,
            "weights": weights,
            "step": trainer.step,
            "events": sink.events,
            "imported_inductor": "torch._inductor.compile_fx" in sys.modules,
        },
        Path(spec["out"]) / f"rank-{ranks.rank}.pt",
    )
    leave()


if __name__ == "__main__":
    main()
