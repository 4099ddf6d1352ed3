"""Run `d2tv evaluate --perturb`: decode held-out examples perturbed, and compare their scores with the clean ones.

Only examples that a perturbation changes are decoded; the others keep their clean summary. A kind is measured on the
examples that it applies to (no slips of an English keyboard in a Chinese document), clean and perturbed alike.

Writes evaluation/<split>-robustness.json, and <split>-robustness.parquet with every summary of a changed example:
columns kind, severity, the example's number (as in <split>-predictions.parquet), story, source, target, prediction, and
each of ROUGE as float64 in per cent. Until then predictions are kept in evaluation/<split>-robustness-parts, so that
the same command continues after a kill. A report of other kinds, severities or seed is moved to a directory of its own
(trainer/evaluation/kept.py).
"""

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.network import Network
from shards.errors import InputError
from shards.files.write import write_atomically
from trainer.checkpoint.directory import read_state
from trainer.evaluation.decoding import Predictions
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import take_groups
from trainer.evaluation.kept import evaluation_folder, make_room_for_robustness, same
from trainer.evaluation.predictions import Prediction, read_facts, read_predictions
from trainer.evaluation.report import read_report
from trainer.evaluation.robustness.impact import sources
from trainer.evaluation.robustness.kind_report import sample, score_kind
from trainer.evaluation.robustness.plan import Wanted, by_reason, make_plan
from trainer.evaluation.scoring.rouge import ROUGE
from trainer.evaluation.scoring.segmenters import segmenter
from trainer.evaluation.tasks.decode import decode

_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("severity", pa.int64(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("story", "source", "target", "prediction")),
        *(pa.field(name, pa.float64(), nullable=False) for name in ROUGE),
    ]
)


def finished(evaluator: Evaluator, split: str, checkpoint: Path) -> dict[str, Any] | None:
    """Return the report of a clean evaluation of this checkpoint, settings and corpus; None without one, or where the
    predictions beside it are of another."""
    report = read_report(evaluator.where, split)
    facts = evaluator.facts(checkpoint)
    if report is None or not same(report, facts):
        return None
    of = read_facts(evaluator.where, split)
    return report if isinstance(of, dict) and same(of, facts) else None


def check_wanted(wanted: Wanted, evaluator: Evaluator, split: str) -> None:
    """Raise `InputError` where the plan cannot be made, before anything is decoded."""
    once = replace(wanted, severities=wanted.severities[:1])
    make_plan(once, evaluator, evaluator.choose(split), split)


def measure(
    evaluator: Evaluator,
    network: Network,
    split: str,
    checkpoint: Path,
    wanted: Wanted,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Write and return the report of all kinds and severities, beside a clean evaluation (`finished`).

    log: gets lines on what is going to be done, and each kind's result. Raises `InputError`.
    """
    run = evaluator.where
    clean, without_rouge = _scored(read_predictions(run, split))
    if without_rouge:
        log(f"left out: {without_rouge:,} examples that have no ROUGE when clean (no word, or no segmenter)")
    if not clean:
        raise InputError(f"no example of {split} has ROUGE: see what {evaluation_folder(run) / split}.json says of it")
    groups = evaluator.choose(split)
    groups = take_groups(groups, np.flatnonzero(np.isin(groups.number, list(clean))))
    log(f"finding out which of {len(groups.number):,} examples each perturbation changes")
    plan = make_plan(wanted, evaluator, groups, split)
    for why, names in by_reason(plan.left_out).items():
        log(f"left out: {', '.join(names)}: {why}")
    log(
        f"{len(plan.parts)} perturbations (kinds × severities) of {len(groups.number):,} examples: "
        f"{plan.decodings:,} summaries to decode; the others do not change, or do not apply"
    )
    report: dict[str, Any] = {
        "split": split,
        "step": read_state(checkpoint).step,
        **evaluator.facts(checkpoint),
        "seed": wanted.seed,
        "severities": list(wanted.severities),
        "measures": list(ROUGE),
        "without_rouge": without_rouge,
        "left_out": dict(plan.left_out),
        "kinds": {},
    }
    folder = evaluation_folder(run) / f"{split}-robustness-parts"
    table: list[dict[str, Any]] = []
    decoded: list[Predictions] = []
    for kind, of_kind in groupby(plan.parts, key=lambda part: part.kind):
        parts = list(of_kind)
        found = []
        for part in parts:
            what = {"kind": kind.name, "strength": kind.strength(part.severity), "seed": wanted.seed}
            changed = take_groups(groups, np.flatnonzero(part.changed))
            facts, into = evaluator.facts(checkpoint) | what, folder / part.name
            found.append(decode(evaluator, network, changed, into, facts, perturbations=[part.transform]))
            part.transform.forget()
        decoded += found
        written = [
            {row["number"]: row["prediction"] for of_batch in predictions.read().values() for row in of_batch}
            for predictions in found
        ]
        rows, entry = score_kind(parts, written, groups, clean, evaluator.corpus, evaluator.recipe.evaluation.rouge)
        table += rows
        report["kinds"][kind.name] = {**entry, "sample": sample(parts, groups, evaluator)}
        scores = "  ".join(f"{of['scores']['rougeL']:.2f}" for of in entry["severities"].values())
        log(f"{kind.name}: ROUGE-L {entry['clean']['rougeL']:.2f} clean, {scores} perturbed")
    report["sources"] = sources(report["kinds"])
    if line := _write(run, split, report, table):
        log(line)
    for predictions in decoded:
        predictions.remove()
    with contextlib.suppress(OSError):  # another command's predictions may lie there, or it is a link
        folder.rmdir()
    return report


def _scored(rows: Sequence[Prediction]) -> tuple[dict[int, Prediction], int]:
    """Return the examples with ROUGE by number, and the count of the others. `InputError` for a missing segmenter."""
    clean = {row.number: row for row in rows if all(row.scores.get(name) is not None for name in ROUGE)}
    for language in sorted({row.target for row in clean.values()}):
        segmenter(language)
    return clean, len(rows) - len(clean)


def _write(run: Path, split: str, report: dict[str, Any], table: list[dict[str, Any]]) -> str | None:
    """Write report and table; return the line on where former ones are kept, None without any."""
    path = evaluation_folder(run) / f"{split}-robustness.json"
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table, schema=_SCHEMA), buffer, compression="zstd", write_page_checksum=True)
    try:
        line = make_room_for_robustness(run, split, report)
        write_atomically(path.with_suffix(".parquet"), buffer.getvalue())
        write_atomically(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise InputError(f"{path.parent} cannot be written: {error}") from error
    return line
