"""Write the files by which Prometheus finds the endpoints: a directory of `file_sd` files, one an endpoint.

A file appears whole, is touched while its endpoint lives, and is removed at the end. The next start sweeps up what a
kill left behind, by labels that begin with __meta_, which Prometheus drops.
"""

import contextlib
import hashlib
import json
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.files.read import read_json
from shards.files.write import is_regular, write_atomically

#: A living endpoint touches its file once a minute. One that was not touched for so long may be left behind ...
_SILENT_SECONDS = 300.0
#: ... and after so long it is, whichever host wrote it.
_FORGOTTEN_SECONDS = 24 * 3600.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_META = "__meta_d2tv_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """An endpoint. address: host:port.  attempt: what all endpoints of one start of the run have in common."""

    address: str
    scheme: str
    run: Path
    node: str
    rank: int
    attempt: str
    slurm_job: str | None = None

    def document(self) -> list[dict[str, Any]]:
        """Return the content of its file."""
        labels = {
            "job": "d2tv",
            "run": self.run.name,
            "node": self.node,
            "rank": str(self.rank),
            **({"slurm_job": self.slurm_job} if self.slurm_job else {}),
            "__scheme__": self.scheme,
            f"{_META}run": str(self.run.absolute()),
            f"{_META}attempt": self.attempt,
            f"{_META}host": socket.gethostname(),
            f"{_META}process": f"{os.getpid()} {_process_start(os.getpid())}",
        }
        return [{"targets": [self.address], "labels": labels}]

    def file_name(self) -> str:
        """Return its file's name: the same at every start of the run on this node, and no other run directory's."""
        return _file_name(self.document()[0]["labels"])


def _file_name(labels: dict[str, str]) -> str:
    digest = hashlib.sha256(labels[f"{_META}run"].encode()).hexdigest()[:8]
    return re.sub(r"[^\w.-]+", "_", f"{labels['run']}-{digest}-{labels['node']}-{labels['rank']}") + ".json"


class TargetFile:
    """A target's file, from now until `remove`. Raises `OSError` where it cannot be written."""

    def __init__(self, directory: Path, target: Target) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        sweep(directory, target)
        self.path = directory / target.file_name()
        self._data = (json.dumps(target.document(), indent=1) + "\n").encode()
        write_atomically(self.path, self._data)

    def touch(self) -> None:
        """Show that the endpoint lives; write the file again if it is gone."""
        with contextlib.suppress(OSError):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                write_atomically(self.path, self._data)

    def remove(self) -> None:
        """Remove the file, unless another start of the run has replaced it."""
        with contextlib.suppress(OSError):
            if is_regular(self.path) and self.path.read_bytes() == self._data:
                self.path.unlink()


def sweep(directory: Path, ours: Target) -> None:
    """Remove the files of endpoints that are gone: of earlier starts of our run, of this host's processes, and those
    that were not touched for a day.

    Only files of the name and labels that a `TargetFile` gives: copies under other names, links and all else stay.
    """
    for path in directory.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
            if not is_regular(path):
                continue
            labels = read_json(path)[0]["labels"]
            if path.name == _file_name(labels) and _is_gone(labels, time.time() - path.stat().st_mtime, ours):
                path.unlink()


def _is_gone(labels: dict[str, str], silent_seconds: float, ours: Target) -> bool:
    if labels[f"{_META}run"] == str(ours.run.absolute()) and labels[f"{_META}attempt"] != ours.attempt:
        return True
    # Containers may share a host's name and see none of each other's processes: a living endpoint touches its file.
    if silent_seconds < _SILENT_SECONDS:
        return False
    pid, started = labels[f"{_META}process"].split(maxsplit=1)
    gone_here = labels[f"{_META}host"] == socket.gethostname() and _process_start(pid) != started
    return gone_here or silent_seconds > _FORGOTTEN_SECONDS


def _process_start(pid: int | str) -> str:
    """Return the machine's start and the process' start in it, which tell apart processes of one number; "none".

    psutil's create_time moves with the clock.
    """
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return f"{_BOOT.read_text(encoding='ascii').strip()} {ticks}"
    except (OSError, IndexError):
        return "none"
