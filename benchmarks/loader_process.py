"""A peer of `benchmarks.loader` in its own process: requests and answers, one JSON object a line."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.loader_clock import Round

#: Seconds after which an answer will not come any more, and after which a process will not end of itself.
_LONGEST, _LONGEST_END = 300.0, 10.0
_ROOT = Path(__file__).resolve().parents[1]


class PeerError(Exception):
    """A peer cannot be measured; the message says why."""


class PeerProcess:
    """A context manager: the process, with all that it started, is gone afterwards."""

    def __init__(self, name: str, python: str, directory: Path, records: int) -> None:
        """directory: where the corpus is, and where the peer's own folder goes."""
        self._log = directory / f"{name}.log"
        self._command = [python, "-m", "benchmarks.loader_peers", name, "--corpus", str(directory / "corpus")]
        self._command += ["--own", str(directory / name), "--records", str(records)]
        # Workers leave folders behind. Not below `directory`: sockets are made there, whose paths must be short.
        self._temporary = tempfile.TemporaryDirectory(prefix="d2tv-peer-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._temporary:
            if self._process is not None:
                self._end(self._process)

    def version(self) -> str:
        """Of the installed package. `PeerError` where there is none."""
        answer = self._ask({"do": "find"})
        if "missing" in answer:
            raise PeerError(str(answer["missing"]))
        return str(answer["version"])

    def write(self) -> None:
        """Make the peer's dataset and check a batch of it."""
        self._ask({"do": "write"})

    def round(self, workers: int, seconds: float, warm: int, seed: int) -> Round:
        return Round(**self._ask({"do": "round", "workers": workers, "seconds": seconds, "warm": warm, "seed": seed}))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        alarm = threading.Timer(_LONGEST, self._kill)
        alarm.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            said = self._log.read_text(encoding="utf-8", errors="replace").strip()
            raise PeerError(said.splitlines()[-1] if said else f"it ended at {request['do']} without a word")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            try:
                with open(self._log, "wb") as log:
                    self._process = subprocess.Popen(
                        self._command,
                        cwd=_ROOT,
                        env={**os.environ, "TMPDIR": self._temporary.name},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                        encoding="utf-8",
                        # Its own group, to end it together with its workers.
                        start_new_session=True,
                    )
            except OSError as error:
                raise PeerError(f"{self._command[0]}: {error.strerror}") from error
        return self._process

    def _end(self, running: "subprocess.Popen[str]") -> None:
        with running as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_LONGEST_END)
            self._kill()

    def _kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
