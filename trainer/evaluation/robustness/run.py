"""`d2tv evaluate --perturb`: held-out examples again, perturbed, and what that costs beside the clean ones.

Only examples that a perturbation changes are decoded; the others keep their clean summary. A kind is measured on the
examples that it applies to (an English keyboard's slips on no Chinese document), clean and perturbed alike.

Writes evaluation/<split>-robustness.json, and <split>-robustness.parquet with every summary of a changed example. Until
then what is decoded lies in evaluation/<split>-robustness-parts, so that the same command goes on after a kill. A
report of other kinds, severities or seed that lies there is moved to a directory of its own
(trainer/evaluation/kept.py).
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from models.network import Network
from shards.errors import InputError
from shards.files.write import write_atomically
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from trainer.checkpoint.directory import read_state
from trainer.evaluation.decoding import Predictions
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import take_groups
from trainer.evaluation.kept import evaluation_folder, make_room_for_robustness, same
from trainer.evaluation.predictions import Prediction, read_facts, read_predictions
from trainer.evaluation.report import read_report
from trainer.evaluation.robustness.impact import Scores, impacts, mean_impacts
from trainer.evaluation.robustness.perturb import DocumentPerturbation, TextPerturbation
from trainer.evaluation.robustness.plan import Part, Wanted, by_reason, make_plan, source_languages
from trainer.evaluation.robustness.sources import is_whole, lost_shares, sources
from trainer.evaluation.robustness.table import Perturbed, write_perturbed
from trainer.evaluation.robustness.text import clusters, seeded
from trainer.evaluation.scoring.rouge import ROUGE
from trainer.evaluation.scoring.score import mean_scores, score_rouge
from trainer.evaluation.scoring.segmenters import segmenter
from trainer.recipe.profiles import Profile

#: Characters of a document that show what was done to it.
_SAMPLE = 160


def finished(evaluator: Evaluator, split: str, checkpoint: Path) -> dict[str, Any] | None:
    """The report of a clean evaluation of this checkpoint, with these settings, of this corpus; None without one, and
    where the predictions beside it are of another."""
    report = read_report(evaluator.where, split)
    facts = evaluator.facts(checkpoint)
    if report is None or not same(report, facts):
        return None
    of = read_facts(evaluator.where, split)
    return report if isinstance(of, dict) and same(of, facts) else None


def check_wanted(wanted: Wanted, evaluator: Evaluator, split: str) -> None:
    """`InputError` where what is wanted cannot be had, without anything decoded."""
    once = replace(wanted, severities=wanted.severities[:1])
    make_plan(once, evaluator, evaluator.choose(split), split)


def measure(
    evaluator: Evaluator,
    network: Network,
    split: str,
    checkpoint: Path,
    wanted: Wanted,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The report of all kinds and severities, written. The clean evaluation is there already (`finished`).

    say: is told what is going to be done, and each kind's result. Raises `InputError`.
    """
    run = evaluator.where
    clean, without_rouge = _scored(read_predictions(run, split))
    if without_rouge:
        say(f"left out: {without_rouge:,} examples that have no ROUGE when clean (no word, or no segmenter)")
    if not clean:
        raise InputError(f"no example of {split} has ROUGE: see what {evaluation_folder(run) / split}.json says of it")
    groups = evaluator.choose(split)
    groups = take_groups(groups, np.flatnonzero(np.isin(groups.number, list(clean))))
    say(f"finding out which of {len(groups.number):,} examples each perturbation changes")
    plan = make_plan(wanted, evaluator, groups, split)
    for why, names in by_reason(plan.left_out).items():
        say(f"left out: {', '.join(names)}: {why}")
    say(
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
    parts_folder = evaluation_folder(run) / f"{split}-robustness-parts"
    table: list[Perturbed] = []
    written: list[Predictions] = []
    for kind, of_kind in groupby(plan.parts, key=lambda part: part.kind):
        parts = list(of_kind)
        found = [_decode(part, evaluator, network, groups, parts_folder, checkpoint, wanted.seed) for part in parts]
        written += found
        rows, entry = _entry(parts, found, groups, clean, evaluator.corpus, evaluator.recipe.evaluation.rouge)
        table += rows
        entry["sample"] = _sample(parts, groups, evaluator)
        report["kinds"][kind.name] = entry
        say(_line(kind.name, entry))
    report["sources"] = sources(report["kinds"])
    if line := _write(run, split, report, table):
        say(line)
    for predictions in written:
        predictions.remove()
    with contextlib.suppress(OSError):  # another command's predictions may lie there, or it is a link
        parts_folder.rmdir()
    return report


def robustness_path(run: Path, split: str) -> Path:
    return evaluation_folder(run) / f"{split}-robustness.json"


def _scored(rows: Sequence[Prediction]) -> tuple[dict[int, Prediction], int]:
    """The examples by number that have ROUGE, and how many have none. `InputError` for a segmenter that has gone."""
    clean = {row.number: row for row in rows if all(row.scores.get(name) is not None for name in ROUGE)}
    for language in sorted({row.target for row in clean.values()}):
        segmenter(language)
    return clean, len(rows) - len(clean)


def _decode(
    part: Part,
    evaluator: Evaluator,
    network: Network,
    groups: Groups,
    folder: Path,
    checkpoint: Path,
    seed: int,
) -> Predictions:
    """The summaries of what the perturbation changes."""
    facts = evaluator.facts(checkpoint) | {
        "kind": part.kind.name,
        "strength": part.kind.strength(part.severity),
        "seed": seed,
    }
    changed = take_groups(groups, np.flatnonzero(part.changed))
    found = replace(evaluator, collate=evaluator.collate_changed(part.transform)).decode(
        network, changed, folder / part.name, facts
    )
    part.transform.forget()
    return found


def _entry(
    parts: Sequence[Part],
    found: Sequence[Predictions],
    groups: Groups,
    clean: dict[int, Prediction],
    corpus: Corpus,
    profile: Profile,
) -> tuple[list[Perturbed], dict[str, Any]]:
    """A kind's rows for the table, and its part of the report."""
    kind = parts[0].kind
    written = [
        {row["number"]: row["prediction"] for of_batch in predictions.read().values() for row in of_batch}
        for predictions in found
    ]
    numbers = groups.number.tolist()
    # What could not be read again at any severity is left out of all, so that they are of the same examples.
    unreadable = {
        numbers[place]
        for part, of_part in zip(parts, written, strict=True)
        for place in np.flatnonzero(part.changed).tolist()
        if numbers[place] not in of_part
    }
    covered = [numbers[place] for place in np.flatnonzero(parts[0].covered).tolist()]
    covered = [number for number in covered if number not in unreadable]
    if not covered:
        raise InputError(f"{kind.name}: no example could be read any more: `d2tv verify` the corpus")
    asked = [(place, number) for place, of in enumerate(written) for number in covered if number in of]
    scored = score_rouge(
        [(clean[number].target, clean[number].reference, written[place][number]) for place, number in asked],
        profile=profile,
    )
    of_asked = {
        key: {name: 100 * value for name, value in zip(ROUGE, values, strict=True)}
        for key, values in zip(asked, scored, strict=True)
        if values is not None  # as all are: `measure` looks to references and segmenters
    }
    of_clean = {number: {name: clean[number].scores[name] or 0.0 for name in ROUGE} for number in covered}
    clean_means = mean_scores([of_clean[number] for number in covered])
    severities: dict[str, Any] = {}
    whole: dict[str, Any] | None = None
    for place, part in enumerate(parts):
        rows: list[Scores] = [of_asked.get((place, number), of_clean[number]) for number in covered]
        scores = mean_scores(rows)
        if is_whole(kind, part.severity):
            whole = lost_shares([of_clean[n] for n in covered], rows, [clean[n].story for n in covered])
        severities[str(part.severity)] = {
            "strength": kind.strength(part.severity),
            "changed": sum(number in written[place] for number in covered) / len(covered),
            "scores": scores,
            "mmi": impacts(clean_means, scores),
        }
    languages = source_languages(corpus, take_groups(groups, np.flatnonzero(parts[0].covered)))
    entry = {
        "family": kind.family,
        "what": kind.what,
        "unit": kind.unit,
        "examples": len(covered),
        "passed_over": len(numbers) - len(covered) - len(unreadable),
        "unreadable": len(unreadable),
        "languages": languages,
        "languages_passed_over": sorted(set(source_languages(corpus, groups)) - set(languages)),
        "clean": clean_means,
        "severities": severities,
        "mean_mmi": mean_impacts([of["mmi"] for of in severities.values()]),
        "whole": whole,
    }
    table = [
        Perturbed(
            kind=kind.name,
            severity=parts[place].severity,
            number=number,
            story=clean[number].story,
            source=clean[number].source,
            target=clean[number].target,
            prediction=written[place][number],
            scores=of_asked[place, number],
        )
        for place, number in asked
    ]
    return table, entry


def _sample(parts: Sequence[Part], groups: Groups, evaluator: Evaluator) -> dict[str, str] | None:
    """The beginning of a document before and after the middle severity, for a person to see what was done to it."""
    part = parts[len(parts) // 2]
    changed = np.flatnonzero(part.changed)
    if not isinstance(part.transform, TextPerturbation | DocumentPerturbation) or not len(changed):
        return None
    place = seeded(0, part.kind.name).choice(changed.tolist())  # another language of each kind
    article = evaluator.reader.article(int(groups.source[place, 0]))
    perturbed = part.transform.perturbed(article, int(groups.story[place, 0]))
    return {
        "language": article.language,
        "severity": str(part.severity),
        "before": _beginning(article.text),
        "after": _beginning(perturbed.text),
    }


def _beginning(text: str) -> str:
    parts = clusters(text)
    return "".join(parts[:_SAMPLE]) + ("…" if len(parts) > _SAMPLE else "")


def _line(name: str, entry: dict[str, Any]) -> str:
    scores = "  ".join(f"{of['scores']['rougeL']:.2f}" for of in entry["severities"].values())
    return f"{name}: ROUGE-L {entry['clean']['rougeL']:.2f} clean, {scores} perturbed"


def _write(run: Path, split: str, report: dict[str, Any], table: Sequence[Perturbed]) -> str | None:
    """Write report and table; a line to say where others that lay there are kept, None without any."""
    path = robustness_path(run, split)
    try:
        line = make_room_for_robustness(run, split, report)
        write_perturbed(path.with_suffix(".parquet"), table)
        write_atomically(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise InputError(f"{path.parent} cannot be written: {error}") from error
    return line
