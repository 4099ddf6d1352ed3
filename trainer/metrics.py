"""metrics.jsonl: what a run tells of itself, one JSON object a line."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files import write_atomically


class MetricsLog:
    """metrics.jsonl: one object a line, appended. Rank 0 only."""

    def __init__(self, path: Path, resume_step: int | None) -> None:
        """Begin anew where `resume_step` is None. Else as after `rewind`. Starts stay on record."""
        self._path = path
        self._cut = self._complained = False
        self._open(resume_step)

    def rewind(self, step: int) -> None:
        """Drop the lines past `step`, and a last line that a kill cut short: they will come again."""
        self._file.close()
        self._open(step)

    def _open(self, resume_step: int | None) -> None:
        path = self._path
        kept: list[str] = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = parse_record(line)
                if record is None:
                    continue
                if record.get("kind") == "start" or (resume_step is not None and record["step"] <= resume_step):
                    kept.append(line + "\n")
        try:
            write_atomically(path, "".join(kept).encode())  # a kill in this very moment must not lose the history
            # Unbuffered and kept open for the whole run: a kill loses at most one line.
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error

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
    """The whole lines of a metrics.jsonl."""
    records = (parse_record(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [record for record in records if record is not None]


def parse_record(line: str | bytes) -> dict[str, Any] | None:
    """The record in a line; None for one that a kill or a full disk cut."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None
