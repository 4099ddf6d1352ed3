"""Loss curves of every recipe on the tiny corpus: `python -m tests.numerics.golden --json OUT`.

`--update` writes golden_curves.json. Do that only when the mathematics is meant to change, and say why in LOG.md.
"""

import argparse
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from shards.format.index import Corpus
from tests.support.harness import FP32
from tests.support.tiny import make_corpus, tiny_overrides
from trainer.assemble import assemble
from trainer.distributed import join, leave
from trainer.loop import total_loss
from trainer.plan import plan_run
from trainer.ranks import ranks_from_environment
from trainer.recipe import load_recipe
from trainer.recipe.values import recipe_names

GOLDEN = Path(__file__).with_name("golden_curves.json")
STEPS = 50
#: Backbones that no machine can fetch.
NOT_TRAINABLE_HERE = {"d2tv_mt5_small", "d2tv_mt5_base", "d2tv_mt5_large", "d2tv_mbart50", "rc3_mbart50"}


#: Recipes that read another's network, and whose under which name.
READS = {
    "across": ("mls", "across_mls"),
    "rc3_classification": ("pretrained", "rc3_roi"),
    "rc3_retrieval": ("pretrained", "rc3_roi"),
    "rc3_translation": ("pretrained", "rc3_roi"),
}

#: One recipe is run twice, because "the same on this machine" should hold on every machine.
AGAIN_SUFFIX = " again"
AGAIN = "d2tv" + AGAIN_SUFFIX


def machine() -> str:
    """Name what makes arithmetic the same to the last bit: processor, torch build, threads."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    processor = " ".join(fields.get(key, "?") for key in ("model name", "cpu family", "model", "stepping"))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{processor}, {capability}, torch {torch.__version__}, {torch.get_num_threads()} thread"


def curves() -> dict[str, list[float]]:
    """Total loss of each of 50 steps, by recipe."""
    torch.set_num_threads(1)
    ranks = ranks_from_environment()
    device = join(ranks)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        @cache
        def corpus_of(**has: bool) -> Corpus:
            return make_corpus(Path(folder) / f"corpus-{len(list(Path(folder).iterdir()))}", **has)

        runs = [*(name for name in recipe_names() if name not in NOT_TRAINABLE_HERE), AGAIN]
        for run in sorted(runs, key=lambda run: run in READS):  # those last
            name = run.removesuffix(AGAIN_SUFFIX)
            recipe = load_recipe(name)
            objective = recipe.objective.name
            corpus = corpus_of(labels=objective in ("classification", "amid"), pixels="pixels" in recipe.needs)
            # A low rate: rounding differences between machines must not grow into differences of their own.
            words = [*tiny_overrides(corpus.directory, Path(folder) / run), "optimizer.learning_rate=1e-3"]
            words += [f"training.steps={STEPS}"]
            words = [word for word in words if not word.startswith("objective.alpha_steps=")]  # D2TV's
            if objective == "d2tv":
                words += ["objective.alpha_steps=50"]
            if objective == "across":
                words += ["objective.negatives=32"]
            if objective.startswith("amid"):
                words += ["objective.width=16", "objective.warmup_steps=0", "objective.epoch_steps=5"]
                words += ["objective.alpha1=0.2", "objective.alpha2=0.1"]
            if objective == "classification":
                words += ["corpus.tokenizer="]
            if objective in ("retrieval", "classification", "amid"):
                words = [word for word in words if not word.startswith("objective.label_smoothing=")]
            if run in READS:
                reference, other = READS[run]
                words += [f"references.{reference}.model={Path(folder) / other}"]
            trainer = assemble(plan_run(load_recipe(name, words), FP32, ranks), device).trainer
            losses: list[float] = []
            forward = trainer.engine.forward

            def watch(batch, step, counts, forward=forward, losses=losses):  # type: ignore[no-untyped-def]
                outputs = forward(batch, step, counts)
                losses.append(float(total_loss(outputs, counts).detach()))
                return outputs

            trainer.engine.forward = watch
            for _ in range(STEPS):
                trainer.train_step()
            if run in {other for _, other in READS.values()}:
                trainer.save_now()
            trainer.close()
            found[run] = losses
    leave()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    result: dict[str, Any] = {"curves": curves(), "machine": machine()}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.update:
        del result["curves"][AGAIN]
        machines = dict.fromkeys(sorted(result["curves"]), result["machine"])
        kept = {"curves": dict(sorted(result["curves"].items())), "machines": machines}
        GOLDEN.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
