"""How often a run is started again, after which pause, and what its end is called."""

import signal
from pathlib import Path

from trainer.liveness.exit_codes import HUNG, PEER_DIED

LONGEST_PAUSE_SECONDS = 60.0


class Restarts:
    """Counts restarts since the last new checkpoint: a run of weeks may die often, as long as it gets on."""

    def __init__(self, limit: int, newest: Path | None) -> None:
        """limit: restarts without a new checkpoint.  newest: the checkpoint the run begins with."""
        self.total = 0
        self._limit = limit
        self._in_a_row = 0
        # Names of checkpoints sort as their steps do.
        self._furthest = newest.name if newest else ""

    def ended(self, newest: Path | None) -> float | None:
        """Note a death, with the newest whole checkpoint that it left; seconds to wait, None: no restart is left.

        A step that is reached a second time (the checkpoint before was damaged) is no progress.
        """
        if newest is not None and newest.name > self._furthest:
            self._furthest, self._in_a_row = newest.name, 0
        if self._in_a_row == self._limit:
            return None
        self._in_a_row += 1
        self.total += 1
        return min(2.0 ** (self._in_a_row - 1), LONGEST_PAUSE_SECONDS)

    @property
    def has_a_checkpoint(self) -> bool:
        """Whether the run ever had one: then it must not begin anew, also where its disk is away for a moment."""
        return bool(self._furthest)

    def in_words(self) -> str:
        """Which restart comes now."""
        in_all = f" ({self.total} in all)" if self.total > self._in_a_row else ""
        return f"restart {self._in_a_row} of {self._limit}{in_all}"

    def all_used(self) -> str:
        """What was tried before giving up."""
        if self._limit == 0:
            return "without a restart"
        return f"after {self._limit} restart{'s' * (self._limit > 1)} without a new checkpoint"


def in_words(code: int | None, run: Path) -> str:
    """What a launcher's exit code says of a run that died; None stands for a 0 that was none."""
    if code is None:
        return "DeepSpeed's launcher was killed"
    number = _signal_number(code)
    if number is not None:
        return f"killed by signal {number} ({signal.Signals(number).name})"
    if code == HUNG:
        return f"hung: see {run / 'stacks'}"
    if code == PEER_DIED:
        return "a rank died, and the others left it"
    return f"failed with exit code {code}"


def _signal_number(code: int) -> int | None:
    """Death by signal n is -n to a parent, 128 + n to a shell, and 256 - n behind DeepSpeed's launcher."""
    number = -code if code < 0 else 256 - code if code > 192 else code - 128
    return number if number in {int(known) for known in signal.Signals} else None
