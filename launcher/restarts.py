"""Decide how often a run is started again and after which pause, and describe how it ended."""

import signal
from pathlib import Path

from trainer.liveness.exit_codes import HUNG, PEER_DIED

LONGEST_PAUSE_SECONDS = 60.0


class Restarts:
    """Count restarts since the last new checkpoint: a run of weeks may die often, as long as it advances.

    limit: restarts without a new checkpoint.  newest: the checkpoint that the run begins with.
    """

    def __init__(self, limit: int, newest: Path | None) -> None:
        self.total = 0
        self._limit = limit
        self._in_a_row = 0
        # Names of checkpoints sort as their steps do.
        self._furthest = newest.name if newest else ""

    def ended(self, newest: Path | None) -> float | None:
        """Record a death that left `newest`, a whole checkpoint; return the seconds to wait, or None to give up.

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
        """Return True if the run ever had one: it must not begin anew, even while its disk is away."""
        return bool(self._furthest)

    def in_words(self) -> str:
        """Return the number of the restart that comes now."""
        in_all = f" ({self.total} in all)" if self.total > self._in_a_row else ""
        return f"restart {self._in_a_row} of {self._limit}{in_all}"

    def all_used(self) -> str:
        """Return the number of restarts that were tried before giving up."""
        if self._limit == 0:
            return "without a restart"
        return f"after {self._limit} restart{'s' * (self._limit > 1)} without a new checkpoint"


def in_words(code: int | None, run: Path) -> str:
    """Describe the exit code of a launcher whose run died; None: it ended with 0 though the run is not finished."""
    if code is None:
        return "DeepSpeed's launcher was killed"
    # Death by signal n is -n to a parent, 128 + n to a shell, and 256 - n behind DeepSpeed's launcher.
    number = -code if code < 0 else 256 - code if code > 192 else code - 128
    if number in {int(known) for known in signal.Signals}:
        return f"killed by signal {number} ({signal.Signals(number).name})"
    if code == HUNG:
        return f"hung: see {run / 'stacks'}"
    if code == PEER_DIED:
        return "a rank died, and the others left it"
    return f"failed with exit code {code}"
