"""A wish to stop, from a signal: noted at once, acted on by all ranks together at the end of a step."""

import signal
from types import FrameType


class StopRequest:
    """Installs handlers for SIGTERM and SIGINT; the first asks for a stop, a second one ends the process."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # The launcher itself sends INT and TERM within a tenth of a second: a second wish is the same one again.
        if self.signal is not None and self.signal == number:
            raise SystemExit(128 + number)
        self.signal = signal.Signals(number)
