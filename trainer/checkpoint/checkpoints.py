"""When the state of a run is saved, and that its observers hear of it."""

from collections.abc import Callable
from pathlib import Path

from shards.errors import InputError
from trainer.checkpoint.directory import TrainState
from trainer.checkpoint.saver import Saver
from trainer.distributed import PeerError
from trainer.events import Event, PhaseBegan, SaveBegan
from trainer.ranks import Ranks


class Checkpoints:
    """The checkpoints of a run. All ranks make the same calls.

    newest: the whole one that was written last or that the run resumed from, None without one.  state: the run's when
    it was opened.
    """

    def __init__(
        self, saver: Saver, ranks: Ranks, newest: Path | None, state: TrainState, emit: Callable[[Event], None]
    ) -> None:
        self.newest = newest
        self.saver = saver
        self._ranks, self._emit = ranks, emit
        self._saved = _moment(state) if state.attempts else None

    def save(self, state: TrainState) -> None:
        """Begin to save `state`, unless it is saved; training goes on while it is written."""
        if self._saved == _moment(state):
            return
        self._emit(PhaseBegan(phase="checkpoint"))
        self._emit(SaveBegan(step=state.step))
        self.saver.save(state)
        self._saved = _moment(state)

    def save_now(self, state: TrainState) -> None:
        """Save `state`; it is whole when this returns. Raises `InputError` (`PeerError`) where it cannot be written."""
        for _ in range(2):  # a disk that was full for a moment is given a second chance
            self.save(state)
            self.wait()
            saved = self.saver.wait()
            if saved is None or saved.step != state.step:
                return
            if saved.committed:
                self.newest = saved.path
                return
            self._saved = None
            problem = f"the state of step {saved.step} is lost, no checkpoint could be written: {saved.problem}"
        raise InputError(problem) if self._ranks.is_first else PeerError

    def wait(self) -> None:
        """Wait for the save that is under way, and report it."""
        self._emit(PhaseBegan(phase="checkpoint"))
        self.saver.wait()
        self.report()

    def report(self) -> None:
        """Report every save that has ended since the last call. Waits for nothing."""
        while (saved := self.saver.poll()) is not None:
            self._emit(saved)

    def returned_to(self, checkpoint: Path, state: TrainState) -> None:
        """Note that the run has gone back to `checkpoint`, which holds `state`."""
        self.newest, self._saved = checkpoint, _moment(state)

    def close(self) -> None:
        """Wait for the save that is under way."""
        self.saver.wait()


def _moment(state: TrainState) -> tuple[int, int]:
    """Return what tells two states of a run apart."""
    return state.step, state.attempts
