"""Choose the directory of an evaluation, so that none overwrites one of other weights, settings or corpus.

The run's own evaluation (its newest checkpoint, the objective's first product, the settings of its recipe) lies in
`<run>/evaluation`, and so does the first of that product. Others lie in `<run>/evaluation/<label>`, whose label names
the differences: `directions-en-any`, `step-00000400--num_beams-1`, `product-teacher`. Another one in the run's own
place moves to its label before that is written.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.read import read_json
from trainer.evaluation.baseline_names import LABELS
from trainer.recipe.profiles import FORMER
from trainer.runs.lock import FileLock, Owner, read_owner, refusal

#: Settings without effect on the results.
_WITHOUT_EFFECT = frozenset({"batch_size"})
_LONGEST_LABEL = 100
_SUFFIXES = (*(f"-{name}.parquet" for name in ("predictions", *LABELS)), ".html", ".json")
_ROBUSTNESS_SUFFIXES = ("-robustness.parquet", "-robustness.html", "-robustness.json")
_FACTS = ("checkpoint", "product", "settings", "languages", "lengths", "corpus", "images")
#: The meaning of a report without the key: one of before the recipe had corpus.images.
_FORMER_IMAGES = "target"
#: The meaning of settings without one of these keys, which earlier releases lacked (`EvaluationSection.facts`).
_FORMER_SETTINGS = {"no_repeat_ngram_size": 0, "task": "summarization", "candidates": 100}


def evaluation_folder(where: Path) -> Path:
    """Return the directory of an evaluation's files: of a run, an exported model, or a `<run>/evaluation/<label>`."""
    if where.parent.name == "evaluation" and not (where / "evaluation").exists():
        return where
    return where / "evaluation"


def lock_path(where: Path, split: str) -> Path:
    """Return the lock file of an evaluation's writer."""
    return evaluation_folder(where) / f".{split}.lock"


def lock_evaluation(where: Path, split: str, started: str) -> FileLock | None:
    """Take the lock of the evaluation of `split` in `where`, or return None where another process holds it.

    started: as in `Owner`. Raises `InputError` where its directory cannot be made or written.
    """
    path = lock_path(where, split)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be written: {error}") from error
    return FileLock.take(path, Owner.of_this_process(started))


def only_one(where: Path, split: str) -> FileLock:
    """Take the lock; `HeldError` while the run or another command makes the same evaluation."""
    lock = lock_evaluation(where, split, "`d2tv evaluate`")
    if lock is None:
        path = lock_path(where, split)
        raise refusal(path, f"the evaluation of {split} in {path.parent}", read_owner(path))
    return lock


def kept_evaluations(run: Path, split: str) -> list[Path]:
    """Return the `<run>/evaluation/<label>` that hold an evaluation of `split`, sorted."""
    try:
        return sorted(path.parent for path in (run / "evaluation").glob(f"*/{split}.json"))
    except OSError:
        return []


def same(facts: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Return True if all that the results depend on is the same for two evaluations."""
    return all(_fact(facts, key) == _fact(others, key) for key in _FACTS)


def choose(run: Path, split: str, facts: Mapping[str, Any], own: Mapping[str, Any]) -> Path:
    """Return where the evaluation of `facts` belongs: the run, or `<run>/evaluation/<label>`.

    facts, own: as in a report, with its `step`; own: those of the run's own evaluation.
    """
    path = run / "evaluation" / f"{split}.json"
    former, is_first = read(path), not path.exists() and facts.get("product") == own.get("product")
    if same(own, facts) or is_first or (former is not None and same(former, facts)):
        return run
    return _free(run / "evaluation", label(facts, own), split, facts)


def make_room(where: Path, split: str, facts: Mapping[str, Any]) -> str | None:
    """Move an evaluation of other facts away, and return a line on where it is kept; None where there is none.

    Raises `OSError`.
    """
    folder = evaluation_folder(where)
    path = folder / f"{split}.json"
    if not path.is_file():
        return None
    former = read(path)
    if former is not None and same(former, facts):
        return None
    kept = _free(folder, "unreadable" if former is None else label(former, facts), split, former or {})
    _move(folder, kept, split, (*_ROBUSTNESS_SUFFIXES, *_SUFFIXES))
    return f"the evaluation that lay in {folder} is of something else: it is kept in {kept}"


def make_room_for_robustness(where: Path, split: str, report: Mapping[str, Any]) -> str | None:
    """Move a report of perturbations of other kinds, severities or seed away, as `make_room` does."""
    folder = evaluation_folder(where)
    path = folder / f"{split}-robustness.json"
    if not path.is_file():
        return None
    former = read(path)
    if former is not None and _perturbed(former) == _perturbed(report):
        return None
    number, name = 1, "unreadable" if former is None else _robustness_label(former)
    while (folder / (kept := name if number == 1 else f"{name}-{number}") / path.name).exists():
        number += 1
    _move(folder, folder / kept, split, _ROBUSTNESS_SUFFIXES)
    return f"the perturbed evaluation that lay in {folder} is of something else: it is kept in {folder / kept}"


def label(facts: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return a name of the differences of `facts` from `own`, safe for shells and file systems."""
    parts = []
    if facts.get("step") != own.get("step"):
        step = facts.get("step")
        parts.append(f"step-{step:08d}" if type(step) is int else "step-unknown")
    elif facts.get("checkpoint") != own.get("checkpoint"):
        parts.append(f"checkpoint-{_plain(facts.get('checkpoint'))[:8]}")
    if facts.get("product") != own.get("product"):
        parts.append(f"product-{_plain(facts.get('product'))}")
    for section in ("settings", "lengths"):
        of, others = _section(facts, section), _section(own, section)
        if section == "settings":
            of = {**of, **{key: value for key, value in _FORMER_SETTINGS.items() if key in others and key not in of}}
        differ = [
            key for key in of if key not in _WITHOUT_EFFECT and of[key] != others.get(key, _FORMER_SETTINGS.get(key))
        ]
        if section == "settings" and "rouge" not in of and "rouge" in others:  # recorded before it was a setting
            of, differ = {**of, "rouge": FORMER}, [*differ, "rouge"]
        parts += [f"{_plain(key)}-{_plain(of[key])}" for key in differ]
    if facts.get("languages") != own.get("languages"):
        parts.append(f"languages-{_plain(facts.get('languages'))}")
    if facts.get("corpus") != own.get("corpus"):
        parts.append(f"corpus-{_plain(facts.get('corpus'))[:8]}")
    if _fact(facts, "images") != _fact(own, "images"):
        parts.append(f"images-{_plain(_fact(facts, 'images'))}")
    return _short("--".join(parts) or "other")


def read(path: Path) -> dict[str, Any] | None:
    """Read a report; None where there is none or it cannot be read as one."""
    try:
        report = read_json(path)
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def _free(folder: Path, name: str, split: str, facts: Mapping[str, Any]) -> Path:
    """Return `folder`/`name`, with a hash of the facts where an evaluation of others has that name."""
    there = folder / name / f"{split}.json"
    if not there.exists():
        return folder / name
    report = read(there)
    return folder / name if report is not None and same(report, facts) else folder / f"{name}-{_digest(facts)}"


def _move(folder: Path, kept: Path, split: str, suffixes: Sequence[str]) -> None:
    """Move the files of `suffixes`, the report last: after a kill before that, the move is repeated."""
    kept.mkdir(exist_ok=True)
    for suffix in suffixes:
        path = folder / f"{split}{suffix}"
        if path.is_file():
            os.replace(path, kept / path.name)


def _perturbed(report: Mapping[str, Any]) -> Any:
    """Return all that a report of perturbations depends on."""
    facts = {key: _fact(report, key) for key in _FACTS}
    return facts, sorted(_section(report, "kinds")), report.get("severities"), report.get("seed")


def _robustness_label(report: Mapping[str, Any]) -> str:
    kinds = _section(report, "kinds")
    families = sorted({str(kind.get("family")) for kind in kinds.values() if isinstance(kind, dict)})
    names = sorted(kinds) if len(kinds) <= len(families) else families
    return _short(f"perturbed-{_plain(names)}--severities-{_plain(report.get('severities'))}")


def _section(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = facts.get(key)
    return value if isinstance(value, dict) else {}


def _fact(facts: Mapping[str, Any], key: str) -> Any:
    value = facts.get(key, _FORMER_IMAGES if key == "images" else None)
    if not isinstance(value, dict):
        return value
    former = _FORMER_SETTINGS if key == "settings" else {}
    return {key: of for key, of in {**former, **value}.items() if key not in _WITHOUT_EFFECT}


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(_plain(one) for one in value)
    text = str(value).rstrip("/").rpartition("/")[2].replace("*", "any").replace(",", "+").replace(" ", "")
    return re.sub(r"[^A-Za-z0-9._+-]", "_", text) or "none"


def _short(name: str) -> str:
    if len(name) <= _LONGEST_LABEL:
        return name
    return f"{name[:_LONGEST_LABEL]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _digest(facts: Mapping[str, Any]) -> str:
    of = {key: _fact(facts, key) for key in _FACTS}
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:8]
