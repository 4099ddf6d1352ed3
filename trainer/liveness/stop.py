"""React to a signal that asks for a stop: it is noted at once, and all ranks act on it at the end of a step."""

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
from trainer.liveness.waits import SAME_SIGNAL_SECONDS

#: SIGUSR1 is what schedulers send some time before the limit of a job.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class EarlyStop:
    """End the process with `code` at a signal, as long as there is nothing to save, also while it waits in C.

    The main thread enters it at the very beginning; `hand_over` ends it once a `StopSignal` is installed. A rank that
    waits for others to join runs no Python in its main thread, so another thread reads the signals.

    code: `STOPPED`; another where the process has printed why it leaves.  farewell: called before the process ends.
    """

    def __init__(self) -> None:
        self.code = STOPPED
        self.farewell: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "EarlyStop":
        self._signals, self._notify_fd = os.pipe()
        os.set_blocking(self._notify_fd, False)
        self._before = {number: signal.signal(number, lambda *_: None) for number in STOP_SIGNALS}
        self._wakeup_before = signal.set_wakeup_fd(self._notify_fd, warn_on_full_buffer=False)
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
        """Leave the signals to the handlers that were set since."""
        if self._thread is not None:
            current = signal.set_wakeup_fd(-1)
            if current not in (self._notify_fd, -1):
                signal.set_wakeup_fd(current, warn_on_full_buffer=False)
            os.close(self._notify_fd)
            self._thread.join()
            os.close(self._signals)
            self._thread = None

    def _wait(self) -> None:
        while number := os.read(self._signals, 1):
            if number[0] in STOP_SIGNALS:
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


class StopSignal:
    """Handlers of `STOP_SIGNALS`: the first signal sets `received`, a later one ends the process.

    notify_fd: a file descriptor that gets every signal's number at once (`Watchdog.notify_fd`). A handler runs between
    two lines of Python only, so in a collective that never returns it never does: the monitor, which reads the numbers,
    ends the process at the second signal.
    """

    def __init__(self, notify_fd: int | None = None) -> None:
        self.received = False
        self._at = 0.0
        self._leave: Callable[[], None] | None = None
        # A copy: whatever is closed first, a signal never writes into another file that took the number over.
        self._notify_fd = None if notify_fd is None else os.dup(notify_fd)
        if self._notify_fd is not None:
            signal.set_wakeup_fd(self._notify_fd, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    def from_now_on(self, leave: Callable[[], None]) -> None:
        """Call `leave`, which may end the process, at a signal from now on; at once if one was received before."""
        self._leave = leave
        if self.received:
            leave()

    def ignore(self) -> None:
        """Let signals change nothing more: the process is about to end by itself."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._notify_fd is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._notify_fd)
            self._notify_fd = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._leave is not None:
            self._leave()
        if self.received and time.monotonic() - self._at > SAME_SIGNAL_SECONDS:
            # No SystemExit: whatever line is being run might catch it, and leaving waits for threads that hang.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # the signal may have come in the middle of a line
                    stream.flush()
            os._exit(128 + number)
        if not self.received:
            self.received, self._at = True, time.monotonic()
