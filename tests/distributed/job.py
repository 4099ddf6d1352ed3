"""One rank of a distributed test: `python -m tests.distributed.job SPEC.json`, started by `run_job`.

Trains some steps through the real trainer and engine, and leaves what it saw in `<out>/rank-<r>.pt`.
"""

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_grad

from trainer.distributed import join, leave, ranks_from_environment
from trainer.plan import plan_run
from trainer.recipe import load_recipe
from trainer.run import build_trainer


def main() -> None:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    ranks = ranks_from_environment()
    plan = plan_run(load_recipe(spec["recipe"], spec["overrides"]), Path(spec["ds_config"]), ranks)
    torch.set_num_threads(1)
    device = join(ranks)
    trainer = build_trainer(plan, device)
    engine, objective = trainer.engine, trainer.engine.module
    slots: list[list[int]] = []
    losses: list[dict[str, float]] = []
    first_gradient: dict[str, torch.Tensor] = {}
    forward, step = engine.forward, engine.step

    def watch_forward(batch: Any, *rest: Any) -> Any:
        slots.append(batch.slot_B.tolist())
        outputs = forward(batch, *rest)
        if [ranks.rank, trainer.attempts] not in spec["poisoned"]:
            return outputs
        spoilt = {name: dataclasses.replace(term, sum=term.sum * math.nan) for name, term in outputs.terms.items()}
        return dataclasses.replace(outputs, terms=spoilt)

    def watch_step() -> None:
        if engine.is_gradient_accumulation_boundary() and not first_gradient:
            for name, parameter in objective.named_parameters():
                gradient = safe_get_full_grad(parameter)
                assert gradient is not None, name
                first_gradient[name] = gradient.clone()
        step()

    engine.forward, engine.step = watch_forward, watch_step
    for _ in range(spec["steps"]):
        trainer.train_step()
        assert trainer._totals is not None
        losses.append(trainer._totals.reduce(ranks.world_size).loss)
    trainer.close()
    weights = {name: parameter.detach().float().clone() for name, parameter in objective.named_parameters()}
    torch.save(
        {
            "attempts": trainer.attempts,
            "slots": slots,
            "losses": losses,
            "gradient": first_gradient,
            "weights": weights,
            "step": trainer.step,
        },
        Path(spec["out"]) / f"rank-{ranks.rank}.pt",
    )
    leave()


if __name__ == "__main__":
    main()
