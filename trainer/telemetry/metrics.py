"""metrics.jsonl: what a run tells of itself, one JSON object a line."""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.read import parse_json, read_regular
from shards.files.write import write_atomically

#: A log that is larger is no longer read as a whole.
_MOST_BYTES = 1 << 34


class MetricsLog:
    """metrics.jsonl: one object a line, appended. Rank 0 only."""

    def __init__(self, path: Path, resume_step: int | None) -> None:
        """Begin anew where `resume_step` is None. Else as after `rewind`. Starts stay on record."""
        self._path = path
        self._cut = self._complained = self._told_of_bad = False
        self._open(resume_step)

    def rewind(self, step: int) -> None:
        """Drop the lines past `step`, and a last line that a kill cut short: they will come again."""
        self._file.close()
        self._open(step)

    def _open(self, resume_step: int | None) -> None:
        """Rewrite the file without the lines that will come again. What is no record stays where it is."""
        path = self._path
        kept: list[bytes] = []
        bad: list[int] = []
        try:
            lines = read_regular(path, most=_MOST_BYTES).split(b"\n") if path.exists() else []
            for number, line in enumerate(lines, 1):
                record = parse_record(line)
                if record is None:
                    if number == len(lines):  # empty, or cut short by a kill
                        break
                    bad += [number] if line.strip() else []
                elif record["kind"] != "start" and (resume_step is None or record["step"] > resume_step):
                    continue
                kept.append(line + b"\n")
            write_atomically(path, b"".join(kept))  # a kill in this very moment must not lose the history
            # Unbuffered and kept open for the whole run: a kill loses at most one line.
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error
        if bad and not self._told_of_bad:
            self._told_of_bad = True
            print(f"warning: {passed_over(path, len(bad), bad[0])}", file=sys.stderr, flush=True)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line. One that a full disk does not take is lost, which is said once: it ends no training."""
        line = ("\n" if self._cut else "") + json.dumps(record) + "\n"
        try:
            written = self._file.write(line.encode())
            self._cut = written != len(line.encode())
            problem = "the disk is full" if self._cut else ""
        except OSError as error:
            self._cut, problem = True, str(error)
        if problem and not self._complained:
            self._complained = True
            warning = f"warning: {self._path} cannot be written, lines of it are lost: {problem}"
            print(warning, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append a line to a log that nobody has open any more; where that fails it is said on stderr."""
    try:
        with open(path, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            cut = size > 0 and file.read(1) != b"\n"  # by a full disk
            file.seek(size)
            file.write((("\n" if cut else "") + json.dumps(record) + "\n").encode())
    except OSError as error:
        print(f"warning: {path} cannot be written: {error}", file=sys.stderr, flush=True)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the records of a metrics.jsonl in order; what is no record is passed over. Raise `OSError`."""
    lines = read_regular(path, most=_MOST_BYTES).split(b"\n")
    return [record for line in lines if (record := parse_record(line)) is not None]


def read_validations(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Read step and held-out NLL by kind of every validation of a metrics.jsonl, in order. Raise `OSError`."""
    found = []
    for record in read_metrics(path):
        nll = record.get("nll")
        if record["kind"] == "validation" and isinstance(nll, dict):
            found.append((record["step"], {kind: _float(value) for kind, value in nll.items()}))
    return found


def _float(value: object) -> float:
    """A number of a record as a float; NaN for what is none, or none that a float can hold."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def parse_record(line: str | bytes) -> dict[str, Any] | None:
    """Parse the record in a line: an object with a `kind` and a `step`. None for anything else: a line that a kill or
    a full disk cut, bytes of a damaged disk, JSON of somebody else."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    step = record.get("step")
    return record if type(step) is int and 0 <= step < 1 << 53 else None


def passed_over(path: Path, count: int, first: int) -> str:
    """Say in one line how many lines of a log are no records."""
    lines = f"line {first} is" if count == 1 else f"{count:,} lines, {first} the first, are"
    return f"{path}: {lines} no record of ours: passed over, and kept where {'it is' if count == 1 else 'they are'}"
