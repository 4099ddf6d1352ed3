"""Run directories as something hostile or broken may have left them."""

import json
import math
import random
from pathlib import Path
from typing import Any

#: What a value is replaced by.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, -(10**400), 1e300, -1e300, math.nan, math.inf, "", "x", "[/]", "[red]x[/]"),
    *("\x1b[31m", "</script><script>", [], [1], [None], {}, {"a": 1}, {"a": None}, {"mms": math.nan}),
    *({"mms": 1e300, "mxls": -1e300}, {"mms": {"en": math.nan}}, [{"direction": "a>b", "nll": math.nan}], [[0, 1e300]]),
    *({"[/]": 1.0}, {"<b>": {"[/]": 2.0}}),
)
LINES = (b"\xff", b"[" * 5000, b"{}", b"null", b'{"kind": "train", "st', b"9" * 5000)
NLL = {"mms": 3.0, "mxls": 2.0}
BY_TARGET = {"mms": {"english": 2.0, "urdu": 1.0}}
RECORDS: tuple[dict[str, Any], ...] = (
    {"kind": "start", "world_size": 2, "restarts": 0},
    {"kind": "train", "steps": 1, "loss": {"total": 3.0, "ce": 2.0}, "nll": NLL, "nll_by_target": BY_TARGET}
    | {"learning_rate": 1e-3, "gradient_norm": 1.0, "examples_per_second": 3.0, "data_wait_share": 0.1}
    | {"examples": {"mms": 2}, "target_tokens": {"mms": 9}, "step_seconds": 1.0, "unreadable": 0, "alpha": 0.5}
    | {"slowest_rank": 1, "slowest_rank_lag_seconds": 0.1, "skipped_steps": 0},
    {"kind": "validation", "nll": NLL, "nll_by_target": BY_TARGET},
    {"kind": "checkpoint", "committed": True, "bytes": 100, "seconds": 1.0, "problem": None},
    {"kind": "spike", "loss": 9.0, "usual": 2.0, "directions": [{"direction": "a>b", "nll": 3.0}]},
    {"kind": "rollback", "from_step": 9},
    {"kind": "mixture", "mixture": {"alpha": 0.5}},
    {
        "kind": "directions",
        "languages": ["english", "urdu"],
        "nll": [[1.0, 2.0], [3.0, 4.0]],
        "tokens": [[1, 2], [3, 4]],
    },
    {"kind": "end", "outcome": "finished"},
)
SCORES = {"rouge1": 30.0, "rougeL": 20.0, "wrong_language": 5.0, "lase": 60.0}
REPORT: dict[str, Any] = {
    "split": "test", "step": 7, "examples": 800, "unreadable": 1, "checkpoint": "0" * 64,
    "settings": {"directions": "all", "num_beams": 4, "length_penalty": 0.6},
    "by_kind": {"mms": SCORES, "mxls": SCORES},
    "by_target": {"english": SCORES, "urdu": SCORES},
    "by_direction": {"english>urdu": SCORES, "urdu>english": SCORES},
    "macro": {"by_target": {"urdu": SCORES}, "by_kind": {"mms": SCORES}, "by_class": {"low": SCORES}},
    "directions": {"english>urdu": {"examples": 3, "train_pairs": 4}},
    "languages_found": {"urdu": {"urdu": 3, "english": 2}},
    "nll": {kind: {"model": 3.0, "unigram": 6.0, "better_by": 0.5, "examples": 512} for kind in ("mms", "mxls")},
}  # fmt: skip


def mutated(value: Any, draw: random.Random, share: float) -> Any:
    """A copy of which about `share` of the values, at any depth, are others, and some keys are others or gone."""
    if draw.random() < share:
        return draw.choice(VALUES)
    if isinstance(value, dict):
        return {
            key if draw.random() > share / 3 else "<b>[/]\x1b": mutated(one, draw, share)
            for key, one in value.items()
            if draw.random() > share / 3
        }
    return value


def write_run(run: Path, draw: random.Random) -> None:
    """A run directory as something hostile or broken may have left it."""
    (run / "evaluation").mkdir(parents=True)
    lines = []
    for step in range(draw.randint(1, 14)):
        record, share = draw.choice(RECORDS), 0.1 * draw.random()
        others = {key: mutated(value, draw, share) for key, value in record.items() if key != "kind"}
        whole = {"kind": record["kind"], "step": step, "time": 1.7e9 + step} | others
        lines.append(draw.choice(LINES) if draw.random() < 0.1 else json.dumps(whole).encode())
    (run / "metrics.jsonl").write_bytes(b"\n".join([*lines, b""]))
    unreadable = {"kind": "unreadable", "step": 1, "source": "english", "target": "urdu", "problem": "p"}
    of_reads = [json.dumps(mutated(unreadable, draw, 0.1)) for _ in range(3)]
    (run / "unreadable.jsonl").write_text("\n".join([*of_reads, ""]))
    (run / "evaluation" / "test.json").write_text(json.dumps(mutated(REPORT, draw, 0.05)))
    recipe = {"run": "x", "objective": {"name": "d2tv"}, "corpus": {"path": "c"}, "training": {"steps": 10}}
    (run / "recipe.yaml").write_text(json.dumps({key: mutated(value, draw, 0.1) for key, value in recipe.items()}))
