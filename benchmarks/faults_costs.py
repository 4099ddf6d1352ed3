"""Measure what saving costs: `python -m benchmarks.faults_costs SPEC.json` trains alone and prints one JSON object.

In a process of its own, which its memory and threads need. SPEC: words (a recipe's overrides), ds_config, saves.
"""

import json
import statistics
import sys
import time
from pathlib import Path

from trainer.assemble import assemble
from trainer.distributed import join, leave
from trainer.host import keep_freed_memory, set_threads
from trainer.loop import Trainer
from trainer.plan import plan_run
from trainer.ranks import ranks_from_environment
from trainer.recipe import load_recipe

_WARM_UP, _PLAIN = 5, 20


def timed_step(trainer: Trainer) -> float:
    began = time.perf_counter()
    trainer.train_step()
    return time.perf_counter() - began


def measure(trainer: Trainer, saves: int) -> dict[str, float]:
    """Medians over `saves` checkpoints, in seconds.

    stall: what training waited for one.  write: from then until it is committed.  slowed: what the steps meanwhile took
    longer than steps beside which nothing is written.
    """
    for _ in range(_WARM_UP):
        timed_step(trainer)
    stalls, writes, slowed, plain = [], [], [], []
    for _ in range(saves):
        plain += [timed_step(trainer) for _ in range(_PLAIN)]
        usual = statistics.median(plain[-_PLAIN:])
        began = time.perf_counter()
        trainer.save()
        stalls.append(time.perf_counter() - began)
        beside: list[float] = []
        while (saved := trainer.checkpoints.saver.poll()) is None:
            beside.append(timed_step(trainer))
        if not saved.committed:
            raise RuntimeError(saved.problem)
        writes.append(saved.seconds)
        slowed.append(sum(beside) - len(beside) * usual)
    return {
        "step": statistics.median(plain),
        "stall": statistics.median(stalls),
        "write": statistics.median(writes),
        "slowed": statistics.median(slowed),
        "bytes": float(saved.bytes),
        "parameters": float(sum(p.numel() for p in trainer.engine.module.parameters())),
    }


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ranks = ranks_from_environment()
    plan = plan_run(load_recipe("d2tv", spec["words"]), Path(spec["ds_config"]), ranks)
    set_threads(plan.recipe, ranks)
    device = join(ranks)
    keep_freed_memory(device)
    trainer = assemble(plan, device).trainer
    found = measure(trainer, spec["saves"])
    trainer.close()
    leave()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
