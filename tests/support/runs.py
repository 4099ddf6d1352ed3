"""Run directories with the records of a whole training, made up: of any length, any languages, this release's or an
older one's."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.tiny import tiny_overrides
from trainer.recipe import load_recipe

#: When the first record was written.
BEGAN = 1_800_000_000.0
TERMS = ("mms_ce", "mxls_ce", "mms_kd", "mxls_kd", "tco")


def write_recipe(run: Path, *overrides: str) -> None:
    """A whole resolved recipe, as rank 0 writes it."""
    run.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe("d2tv", [*tiny_overrides(Path("corpora/tiny"), run), *overrides])
    (run / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")


def write_records(run: Path, records: Sequence[dict[str, Any]]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def start(step: int = 0, restarts: int = 0, time: float = BEGAN, world_size: int = 8) -> dict[str, Any]:
    return {"kind": "start", "step": step, "world_size": world_size, "restarts": restarts, "time": time}


def train(step: int, **others: Any) -> dict[str, Any]:
    """A train record of an interval of 10 steps of 2 s."""
    fall = math.exp(-step / 4000)
    loss = {name: 2 + place + 6 * fall for place, name in enumerate(TERMS)}
    return {
        "kind": "train",
        "step": step,
        "skipped_steps": 0,
        "steps": 10,
        "loss": {"total": sum(loss.values()), **loss},
        "nll": {"mms": 2 + 5 * fall, "mxls": 2.5 + 6 * fall},
        "learning_rate": 2e-5 * min(step / 2000, 1),
        "gradient_norm": 1 + fall,
        "alpha": step / 10000,
        "examples": {"mms": 320.0, "mxls": 960.0},
        "target_tokens": {"mms": 12800.0, "mxls": 9600.0},
        "examples_per_second": 64.0,
        "step_seconds": 2.0,
        "real_token_share": 0.9,
        "data_wait_share": 0.02,
        "read_retries": 0,
        "unreadable": 0,
        "time": BEGAN + 2.1 * step,
        **others,
    }


def checkpoint(step: int, problem: str | None = None, **others: Any) -> dict[str, Any]:
    return {
        "kind": "checkpoint",
        "step": step,
        "committed": problem is None,
        "stall_seconds": 0.2,
        "seconds": 12.0,
        "bytes": 0 if problem else 3_500_000_000,
        "problem": problem,
        "time": BEGAN + 2.1 * step + 12,
        **others,
    }


def directions(step: int, nll: dict[str, float], examples: float = 60.0) -> dict[str, Any]:
    tokens = 10 * examples
    return {
        "kind": "directions",
        "step": step,
        "time": BEGAN + 2.1 * step,
        "nats": {name: value * tokens for name, value in nll.items()},
        "tokens": dict.fromkeys(nll, tokens),
        "examples": dict.fromkeys(nll, examples),
    }


def eventful_records(languages: Sequence[str], steps: int, *, every: int = 500, seed: int = 0) -> list[dict[str, Any]]:
    """A run of `steps` steps that died once, stopped once, met spikes, a NaN, a full disk and a rollback, and ended."""
    random = np.random.default_rng(seed)
    hard = dict(zip(languages, random.uniform(0, 3, len(languages)), strict=True))
    records: list[dict[str, Any]] = [start()]
    pause = 0.0

    def at(step: int) -> float:
        return BEGAN + pause + 2.1 * step

    def by_target(fall: float, kind: float) -> dict[str, float]:
        return {name: 2 + kind + of + 4 * fall + float(random.normal(0, 0.1)) for name, of in hard.items()}

    for step in range(10, steps + 1, 10):
        fall = math.exp(-step / (steps / 4))
        noise = float(random.normal(0, 0.15))
        loss = {name: 1 + 0.5 * n + 5 * fall + noise for n, name in enumerate(TERMS)}
        norm, spike = float(np.exp(random.normal(0, 0.3))), step in (steps // 5 // 10 * 10, steps // 2 // 10 * 10 + 50)
        if spike:
            loss = {name: value * 3 for name, value in loss.items()}
            norm *= 40
        if step == steps // 3 // 10 * 10:
            loss["tco"] = norm = math.nan
        records.append(
            train(
                step,
                loss={"total": sum(loss.values()), **loss},
                nll={"mms": 2 + 5 * fall + noise, "mxls": 2.5 + 6 * fall + noise},
                nll_by_target={"mms": by_target(fall, 0.0), "mxls": by_target(fall, 0.5)},
                learning_rate=2e-5 * min(step / (steps / 10), (steps - step) / (steps * 0.9)),
                gradient_norm=norm,
                examples_per_second=64 * float(np.exp(random.normal(0, 0.05))),
                target_tokens_per_second=1400 * float(np.exp(random.normal(0, 0.05))),
                data_wait_share=float(abs(random.normal(0.01, 0.01))),
                mfu=0.31 + float(random.normal(0, 0.01)),
                slowest_rank=int(random.integers(8)),
                slowest_rank_lag_seconds=float(abs(random.normal(0.02, 0.02))),
                skipped_steps=3 if step > steps // 3 else 0,
                unreadable=7 if step > steps // 4 else 0,
                time=at(step),
            )
        )
        if spike:
            worst = [{"direction": f"{languages[0]}>{languages[-1]}", "nll": 19.5, "usual": 4.2}]
            records.append(
                {"kind": "spike", "step": step, "loss": 31.0, "usual": 9.5, "directions": worst, "time": at(step)}
            )
        if step % every == 0:
            nll = {f"{s}>{t}": 2 + hard[t] + 0.4 * hard[s] + 5 * fall for s in languages for t in languages}
            records += [
                {
                    "kind": "validation",
                    "step": step,
                    "nll": {"mms": 2.2 + 5 * fall, "mxls": 2.8 + 6 * fall},
                    "nll_by_target": {"mms": by_target(fall, 0.2), "mxls": by_target(fall, 0.8)},
                    "unreadable": 0,
                    "seconds": 30.0,
                    "time": at(step) + 30,
                },
                directions(step, nll),
                checkpoint(step, "[Errno 28] No space left on device" if step == 3 * every else None, time=at(step)),
            ]
        if step == 4 * every:
            pause += 3600
            records.append(start(step, 1, at(step)))
        if step == 6 * every:
            records.append({"kind": "rollback", "step": step, "from_step": step + 130, "time": at(step)})
        if step == 8 * every:
            records.append({"kind": "end", "step": step, "outcome": "stopped", "time": at(step) + 20})
            pause += 7200
            records.append(start(step, 2, at(step), world_size=16))
    records.append({"kind": "end", "step": steps, "outcome": "finished", "time": at(steps) + 900})
    return records
