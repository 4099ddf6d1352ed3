"""How a Prometheus finds the endpoints: a directory of `file_sd` files, one an endpoint.

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

import psutil

from shards.files import write_atomically

#: A file of another host that nobody has touched for so long is nobody's.
_FORGOTTEN_SECONDS = 24 * 3600.0
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
        """What Prometheus reads."""
        process = psutil.Process()
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
            f"{_META}process": f"{process.pid} {process.create_time():.2f}",
        }
        return [{"targets": [self.address], "labels": labels}]

    def file_name(self) -> str:
        """The same at every start of the run on this node; another run of the same name has another."""
        digest = hashlib.sha256(str(self.run.absolute()).encode()).hexdigest()[:8]
        words = re.sub(r"[^\w.-]+", "_", f"{self.run.name}-{digest}-{self.node}-{self.rank}")
        return f"{words}.json"


class TargetFile:
    """A target's file, from now until `remove`. Raises `OSError` where it cannot be written."""

    def __init__(self, directory: Path, target: Target) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        sweep(directory, target)
        self.path = directory / target.file_name()
        write_atomically(self.path, (json.dumps(target.document(), indent=1) + "\n").encode())

    def touch(self) -> None:
        """Say that the endpoint lives."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def sweep(directory: Path, ours: Target) -> None:
    """Remove what is left of endpoints that are gone: of this host's processes, of earlier starts of our run, and what
    nobody has touched for a day. Files that are not ours to judge stay."""
    for path in directory.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError):
            labels = json.loads(path.read_text(encoding="utf-8"))[0]["labels"]
            if _is_gone(labels, time.time() - path.stat().st_mtime, ours):
                path.unlink()


def _is_gone(labels: dict[str, str], silent_seconds: float, ours: Target) -> bool:
    if labels[f"{_META}run"] == str(ours.run.absolute()) and labels[f"{_META}attempt"] != ours.attempt:
        return True
    if labels[f"{_META}host"] != socket.gethostname():
        return silent_seconds > _FORGOTTEN_SECONDS
    pid, started = labels[f"{_META}process"].split()
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True
