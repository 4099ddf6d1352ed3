"""A wish to stop, from a signal: noted at once, acted on by all ranks together at the end of a step."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from trainer.liveness.exit_codes import STOPPED

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
#: A launcher passes on what its process group has already received, so one wish comes as several signals.
SAME_WISH_SECONDS = 3.0


class EarlyStop:
    """Before there is anything to save: a signal ends the process with `code`, also while it waits in C.

    To be entered by the main thread at the very beginning; `hand_over` ends it once `StopRequest` has begun. A rank
    that waits for others to join runs no Python in its main thread, so another one reads the signals.

    code: `STOPPED`; to be set to another where the process has something else to say, and is about to leave.
    farewell: is called before the process ends.
    """

    def __init__(self) -> None:
        self.code = STOPPED
        self.farewell: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "EarlyStop":
        self._signals, self._notify = os.pipe()
        os.set_blocking(self._notify, False)
        self._before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        self._wakeup_before = signal.set_wakeup_fd(self._notify, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._wait, name="early-stop", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.hand_over()

    def hand_over(self) -> None:
        """Leave the signals to whoever has set handlers since."""
        if self._thread is not None:
            current = signal.set_wakeup_fd(-1)
            if current not in (self._notify, -1):
                signal.set_wakeup_fd(current, warn_on_full_buffer=False)
            os.close(self._notify)
            self._thread.join()
            os.close(self._signals)
            self._thread = None

    def _wait(self) -> None:
        while number := os.read(self._signals, 1):
            if number[0] in _SIGNALS:
                self._leave()

    def _leave(self) -> NoReturn:
        """End the process, which may be in the middle of anything: nothing is waited for."""
        if self.code == STOPPED and os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
            with contextlib.suppress(OSError):
                os.write(
                    2, b"stopped before the ranks had met: nothing is to be saved, the same command begins again\n"
                )
        try:
            self.farewell()
        finally:
            os._exit(self.code)


class StopRequest:
    """Installs handlers for SIGTERM, SIGINT and SIGUSR1. The first asks for a stop, a later one ends the process.

    SIGUSR1 is what schedulers send a while before the time is up. A handler runs between two lines of Python only, so
    in a collective that never returns it never does: `told` is a file descriptor (`Watchdog.signals`) that gets every
    signal's number at once, for someone outside to end the process at the second one.
    """

    def __init__(self, told: int | None = None) -> None:
        self.wanted = False
        self._since = 0.0
        self._leave: Callable[[], None] | None = None
        # A copy: whatever is closed first, a signal never writes into another file that took the number over.
        self._told = None if told is None else os.dup(told)
        if self._told is not None:
            signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._note)

    def from_now_on(self, leave: Callable[[], None]) -> None:
        """Nothing is left to save: a signal calls `leave`, which may end the process; one that came before does now."""
        self._leave = leave
        if self.wanted:
            leave()

    def ignore(self) -> None:
        """The process is about to end by itself: from now on signals change nothing about its exit code."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._told is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._told)
            self._told = None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._leave is not None:
            self._leave()
        if self.wanted and time.monotonic() - self._since > SAME_WISH_SECONDS:
            # No SystemExit: whatever line is being run might catch it, and leaving waits for threads that hang.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(128 + number)
        if not self.wanted:
            self.wanted, self._since = True, time.monotonic()
