"""The rank that a monitor watches: its state, its signals, its stacks. Standard library alone."""

import contextlib
import os
import select
import signal
import time

from trainer.liveness.waits import DUMP_QUIET_SECONDS, DUMP_SECONDS

#: A realtime signal that nothing else uses; the rank's faulthandler answers it with its stacks.
DUMP_SIGNAL = 62
_LONGEST_DUMP = 4_000_000


class WatchedRank:
    """A process, by its own open file of /proc, which never shows another process.

    A pidfd would do the same, but not on the kernel 4.18 of enterprise systems, nor in every build of Python.
    stat: descriptor of /proc/<pid>/stat.  stacks: descriptor that its faulthandler's dumps are read from.
    """

    def __init__(self, pid: int, stat: int, stacks: int) -> None:
        self.pid = pid
        self._stat, self._stacks = stat, stacks

    def alive(self) -> bool:
        try:
            # "pid (name) state ...", and the name may hold anything
            return os.pread(self._stat, 4096, 0).rpartition(b")")[2].split()[0] not in (b"Z", b"X", b"x")
        except OSError:
            return False

    def send(self, *numbers: int) -> None:
        for number in numbers:
            if self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def take_stacks(self) -> str:
        """Return what faulthandler writes, by a C handler that needs no GIL. A stopped process is woken for it."""
        self.send(DUMP_SIGNAL, signal.SIGCONT)
        dump, deadline = b"", time.monotonic() + DUMP_SECONDS
        while time.monotonic() < deadline and len(dump) < _LONGEST_DUMP:
            wait = DUMP_QUIET_SECONDS if dump else deadline - time.monotonic()
            if not select.select([self._stacks], [], [], max(0.0, wait))[0]:
                break
            found = os.read(self._stacks, 65536)
            if not found:
                break
            dump += found
        return dump.decode(errors="replace") or self._threads()

    def _threads(self) -> str:
        """Return what the kernel knows of every thread. State `D` waits for a device or file."""
        lines = ["the process did not answer; its threads are (id, name, state, where in the kernel):"]
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                stat, where = (_read(f"/proc/{self.pid}/task/{thread}/{name}") for name in ("stat", "wchan"))
                named, _, state = stat.rpartition(")")
                lines.append(f"  {named}) {state[1:2]} {where}")
        except OSError as error:
            lines.append(f"  {error.strerror}")
        return "\n".join(lines) + "\n"


def _read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read().strip()
