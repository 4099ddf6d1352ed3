"""A wish to stop, from a signal: noted at once, acted on by all ranks together at the end of a step."""

import signal
import time
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
#: A launcher passes on what its process group has already received, so one wish comes as several signals.
_SAME_WISH_SECONDS = 3.0


class StopRequest:
    """Installs handlers for SIGTERM, SIGINT and SIGUSR1. The first asks for a stop, a later one ends the process.

    SIGUSR1 is what schedulers send a while before the time is up.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._since = 0.0
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def restore(self) -> None:
        """Give the signals back: after training they end the process as they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.wanted and time.monotonic() - self._since > _SAME_WISH_SECONDS:
            raise SystemExit(128 + number)
        if not self.wanted:
            self.wanted, self._since = True, time.monotonic()
