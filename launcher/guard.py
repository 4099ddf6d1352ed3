"""A process beside `d2tv train` that outlives it: it holds the run's lock, and stops what a killed supervisor leaves.

The supervisor starts it, waits for the line `held`, and writes it the family of every attempt, `{}` between two.
When the pipe ends with a family in it, nobody stopped that one: the ranks hear the wish to stop, and the lock is
kept until the last of them is gone, so no second set of ranks ever writes into the run.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from launcher.processes import Family, StopWish
from trainer.runs.lock import FileLock, Owner, ending
from trainer.terminal.log import log

#: What ends a session of a terminal or a job also reaches the guard, which ends by its pipe alone.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE)
_NOBODY = "{}"
_POLL_SECONDS = 0.2


class Guard:
    """The supervisor's end of the pipe. A guard that died is done without: it is there for the worst case only."""

    def __init__(self, lock: Path, owner: Owner) -> None:
        """lock: the file to lock.  owner: whom the file names as the lock's holder."""
        # -P: a directory `launcher` where the person happens to stand is not ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "launcher.guard", str(lock), json.dumps(asdict(owner))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._held = False

    def holds_the_lock(self) -> bool:
        """Return True once this supervisor has the run for itself. Never blocks."""
        assert self._process.stdout is not None
        if not self._held:
            # A first byte, or the pipe's end: then it could not do its work, and the run goes on without a guard.
            with contextlib.suppress(BlockingIOError):
                os.read(self._process.stdout.fileno(), 64)
                self._held = True
        return self._held

    def watch(self, family: Family | None) -> None:
        """From now on `family` is what a killed supervisor would leave; None: nothing."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write((family.to_json() if family else _NOBODY) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if not self._held:  # it waits for the lock
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    path, owner = Path(sys.argv[1]), Owner(**json.loads(sys.argv[2]))
    # Where the file system has no locks it goes without: the guard's other half is worth having there, too.
    while (lock := FileLock.take(path, owner)) is None:
        time.sleep(_POLL_SECONDS)
    print("held", flush=True)
    last = _NOBODY
    for line in sys.stdin:
        last = line.strip()
    if last != _NOBODY:
        lock.name(ending(owner))
        _stop(Family.from_json(last))
    lock.release()


def _stop(family: Family) -> None:
    """Ask for a stop until nobody is left. A rank that hangs is its watchdog's."""
    log.getChild("train").info("killed; its ranks are asked to stop")
    wish = StopWish(family=family)
    while family.members() or family.ranks():
        wish.tell()
        time.sleep(0.5)


if __name__ == "__main__":
    main()
