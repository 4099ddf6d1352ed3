"""Write the files by which a Prometheus finds the endpoints: a directory of `file_sd` files, one an endpoint.

A file appears whole, is touched while its endpoint lives, and is removed at the end. What a kill left behind is swept
by whoever starts next: labels that begin with __meta_ (Prometheus drops them) say whose it is.
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

#: Who lives touches its file once a minute. One that nobody has touched for so long may be left behind ...
_SILENT_SECONDS = 300.0
#: ... and after so long it is nobody's, whatever host wrote it.
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
        """Return what Prometheus reads."""
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
            f"{_META}process": f"{os.getpid()} {_start_of(os.getpid())}",
        }
        return [{"targets": [self.address], "labels": labels}]

    def file_name(self) -> str:
        """The same at every start of the run on this node; another run of the same name has another."""
        return _file_name(self.run.name, str(self.run.absolute()), self.node, str(self.rank))


def _file_name(name: str, run: str, node: str, rank: str) -> str:
    digest = hashlib.sha256(run.encode()).hexdigest()[:8]
    words = re.sub(r"[^\w.-]+", "_", f"{name}-{digest}-{node}-{rank}")
    return f"{words}.json"


class TargetFile:
    """A target's file, from now until `remove`. Raises `OSError` where it cannot be written."""

    def __init__(self, directory: Path, target: Target) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        sweep(directory, target)
        self.path = directory / target.file_name()
        self._data = (json.dumps(target.document(), indent=1) + "\n").encode()
        write_atomically(self.path, self._data)

    def touch(self) -> None:
        """Say that the endpoint lives; write the file again where somebody has taken it away."""
        with contextlib.suppress(OSError):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                write_atomically(self.path, self._data)

    def remove(self) -> None:
        """Unless another start of the run has put its own in the place."""
        with contextlib.suppress(OSError):
            if is_regular(self.path) and self.path.read_bytes() == self._data:
                self.path.unlink()


def sweep(directory: Path, ours: Target) -> None:
    """Remove what is left of endpoints that are gone: of earlier starts of our run, of this host's processes, and what
    nobody has touched for a day.

    Only files of the name and labels that a `TargetFile` gives: copies under other names, links and all else stay.
    """
    for path in directory.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
            if not is_regular(path):
                continue
            labels = read_json(path)[0]["labels"]
            name = _file_name(labels["run"], labels[f"{_META}run"], labels["node"], labels["rank"])
            if path.name == name and _is_gone(labels, time.time() - path.stat().st_mtime, ours):
                path.unlink()


def _is_gone(labels: dict[str, str], silent_seconds: float, ours: Target) -> bool:
    if labels[f"{_META}run"] == str(ours.run.absolute()) and labels[f"{_META}attempt"] != ours.attempt:
        return True
    # Containers may share a host's name and see none of each other's processes: what lives touches its file.
    if silent_seconds < _SILENT_SECONDS:
        return False
    pid, started = labels[f"{_META}process"].split(maxsplit=1)
    gone_here = labels[f"{_META}host"] == socket.gethostname() and _start_of(pid) != started
    return gone_here or silent_seconds > _FORGOTTEN_SECONDS


def _start_of(pid: int | str) -> str:
    """Which start of the machine and when in it, so that another process of the same number is another; "none"."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return f"{_BOOT.read_text(encoding='ascii').strip()} {ticks}"
    except (OSError, IndexError):
        return "none"
