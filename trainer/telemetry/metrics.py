"""Write and read metrics.jsonl: the records of a run, one JSON object a line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.read import parse_json, read_regular
from shards.files.write import write_atomically
from trainer.terminal.log import log

#: A log that is larger is no longer read as a whole.
_MOST_BYTES = 1 << 34


class MetricsLog:
    """Append records to a file. Rank 0 only.

    resume_step: drop later records, which will come again; None: drop all. Those of starts stay.
    """

    def __init__(self, path: Path, resume_step: int | None) -> None:
        self._path = path
        self._cut = self._warned_of_loss = self._warned_of_bad = False
        self.starts = 0  # on record when the file was opened last
        self._open(resume_step)

    def rewind(self, step: int) -> None:
        """Drop the records past `step`, and a last line that a kill cut short."""
        self._file.close()
        self._open(step)

    def _open(self, resume_step: int | None) -> None:
        """Rewrite the file without what will come again. A line that is no record stays."""
        path, self.starts = self._path, 0
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
                elif record["kind"] == "start":
                    self.starts += 1
                elif resume_step is None or record["step"] > resume_step:
                    continue
                kept.append(line + b"\n")
            write_atomically(path, b"".join(kept))  # a kill in this very moment must not lose the history
            # Unbuffered and kept open for the whole run: a kill loses at most one line.
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error
        if bad and not self._warned_of_bad:
            self._warned_of_bad = True
            log.warning(passed_over(path, len(bad), bad[0]))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record. One that a full disk does not take is lost, with one warning: it ends no training."""
        line = ("\n" if self._cut else "") + json.dumps(record) + "\n"
        try:
            written = self._file.write(line.encode())
            self._cut = written != len(line.encode())
            problem = "the disk is full" if self._cut else ""
        except OSError as error:
            self._cut, problem = True, str(error)
        if problem and not self._warned_of_loss:
            self._warned_of_loss = True
            log.warning(f"{self._path} cannot be written, lines of it are lost: {problem}")

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the records of a metrics.jsonl in order; what is no record is passed over. Raise `OSError`."""
    lines = read_regular(path, most=_MOST_BYTES).split(b"\n")
    return [record for line in lines if (record := parse_record(line)) is not None]


def validation_history(path: Path, last_step: int | None = None) -> list[dict[str, float]]:
    """Read the held-out NLL by kind of every validation of a metrics.jsonl, in order; none where there is no file.

    last_step: leave out later ones. Raise `OSError`.
    """
    history = []
    for record in read_metrics(path) if path.is_file() else ():
        nll = record.get("nll")
        if (
            record["kind"] == "validation"
            and isinstance(nll, dict)
            and (last_step is None or record["step"] <= last_step)
        ):
            history.append({kind: _float(value) for kind, value in nll.items()})
    return history


def _float(value: object) -> float:
    """Return a number of a record as a float; NaN for anything else, and for an integer that no float holds."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def parse_record(line: str | bytes) -> dict[str, Any] | None:
    """Parse the record in a line, an object with a `kind` and a `step`.

    Return None for anything else: a line that a kill or a full disk cut, damaged bytes, JSON of another program.
    """
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    step = record.get("step")
    return record if type(step) is int and 0 <= step < 1 << 53 else None


def passed_over(path: Path, count: int, first: int) -> str:
    """Return a warning about the lines of a log that are no records."""
    lines = f"line {first} is" if count == 1 else f"{count:,} lines, {first} the first, are"
    return f"{path}: {lines} no record of ours: passed over, and kept where {'it is' if count == 1 else 'they are'}"
