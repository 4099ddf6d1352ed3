"""One rank of a test: train a run and evaluate it, as launcher/train.py does."""

import json
import sys
from pathlib import Path

import torch

from tests.support.harness import FP32
from trainer.distributed import join, leave
from trainer.liveness.stop import StopSignal
from trainer.liveness.watchdog import Watchdog
from trainer.plan import plan_run
from trainer.ranks import ranks_from_environment
from trainer.recipe import load_recipe
from trainer.run import evaluate, open_run, train


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    ranks = ranks_from_environment()
    plan = plan_run(load_recipe(spec["recipe"], spec["overrides"]), FP32, ranks)
    with open_run(plan, join(ranks), Watchdog.off(ranks), StopSignal()) as run:
        assert train(run)
        evaluate(run)
    torch.save({"outcome": run.outcome}, Path(spec["out"]) / f"rank-{ranks.rank}.pt")
    leave()


if __name__ == "__main__":
    main()
