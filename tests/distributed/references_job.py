"""One rank of a test: some steps of an objective that reads a frozen network, and what became of that network."""

import json
import sys
from pathlib import Path

import torch

from models.objectives import OBJECTIVES
from tests.support.harness import FP32
from tests.support.referring import ReferringConfig
from trainer.assemble import assemble
from trainer.distributed import join, leave
from trainer.plan import plan_run
from trainer.ranks import ranks_from_environment
from trainer.recipe import load_recipe


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    OBJECTIVES["referring"] = ReferringConfig
    ranks = ranks_from_environment()
    plan = plan_run(load_recipe(spec["recipe"]), FP32, ranks)
    torch.set_num_threads(1)
    trainer = assemble(plan, join(ranks)).trainer
    for _ in range(spec["steps"]):
        trainer.train_step()
    trainer.log()
    trainer.save_now()
    trainer.close()
    objective = trainer.engine.module
    results = {
        "reference": objective.references["mls"].state_dict(),
        "network": objective.network.state_dict(),
        "step": trainer.step,
    }
    torch.save(results, Path(spec["out"]) / f"rank-{ranks.rank}.pt")
    leave()


if __name__ == "__main__":
    main()
