"""Hold the run's lock beside `d2tv train`, outlive it, and stop the ranks that a killed supervisor leaves.

The supervisor starts the guard, waits for the line `held`, and writes it the family of every attempt, `{}` between two.
A pipe that ends with a family in it means that the supervisor was killed: the ranks are asked to stop, and the lock is
kept until the last of them has ended, so no second set of ranks ever writes into the run.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from launcher.processes import Family, RankStopper
from trainer.liveness.waits import SUPERVISOR_POLL_SECONDS
from trainer.runs.lock import FileLock, Owner
from trainer.terminal.log import log

#: Signals that end the session of a terminal or a job; the guard ends by its pipe alone.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE)
_NOBODY = "{}"


class Guard:
    """The supervisor's end of the pipe. A guard that died is ignored: it is needed in the worst case only.

    lock: the file to lock.  owner: the holder that the file names.
    """

    def __init__(self, lock: Path, owner: Owner) -> None:
        # -P: a directory `launcher` in the working directory must not be imported.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "launcher.guard", str(lock), json.dumps(asdict(owner))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._held = False

    def holds_the_lock(self) -> bool:
        """Return True once this supervisor has the run for itself. Never blocks."""
        if not self._held:
            # A first byte, or the pipe's end: the guard failed, and the run goes on without one.
            with contextlib.suppress(BlockingIOError):
                os.read(self._output.fileno(), 64)
                self._held = True
        return self._held

    def watch(self, family: Family | None) -> None:
        """Set the family that a killed supervisor would leave from now on; None: none."""
        with contextlib.suppress(OSError):
            self._input.write((family.to_json() if family else _NOBODY) + "\n")
            self._input.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
        if not self._held:  # it waits for the lock
            self._process.kill()
        self._process.wait()
        self._output.close()


def main() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    path, owner = Path(sys.argv[1]), Owner(**json.loads(sys.argv[2]))
    # Where the file system has no locks the guard still stops what a killed supervisor leaves.
    while (lock := FileLock.take(path, owner)) is None:
        time.sleep(SUPERVISOR_POLL_SECONDS)
    print("held", flush=True)
    last = _NOBODY
    for line in sys.stdin:
        last = line.strip()
    if last != _NOBODY:
        lock.name(replace(owner, pid=os.getpid(), ending=True))
        log.getChild("train").info("killed; its ranks are asked to stop")
        family = Family.from_json(last)
        stopper = RankStopper(family=family)
        while family.members() or family.ranks():  # a rank that hangs is ended by its watchdog
            stopper.ask()
            time.sleep(0.5)
    lock.release()


if __name__ == "__main__":
    main()
