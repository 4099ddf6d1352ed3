"""Find the checkpoint that a run continues from."""

from pathlib import Path

from shards.errors import InputError
from trainer.checkpoint.directory import damage, whole_checkpoints
from trainer.checkpoint.retention import recover
from trainer.distributed import PeerError, from_first_rank
from trainer.ranks import Ranks
from trainer.terminal.log import log


def newest_sound_checkpoint(directory: Path, ranks: Ranks) -> Path | None:
    """Return the newest undamaged checkpoint, None where there is no checkpoint (all ranks call this).

    Rank 0 checks them and logs the damaged ones, which stay until training replaces them. Raises `InputError` on rank 0
    and `PeerError` elsewhere where all are damaged: to begin anew would throw the run away.
    """
    found, problem = _find(directory) if ranks.is_first else (None, None)
    failed, chosen = from_first_rank(problem is not None), from_first_rank(found)
    if failed:
        raise InputError(problem) if ranks.is_first else PeerError
    assert chosen is None or isinstance(chosen, Path)
    return chosen


def _find(directory: Path) -> tuple[Path | None, str | None]:
    for line in recover(directory):
        log.info(line)
    checkpoints = whole_checkpoints(directory)
    for checkpoint in checkpoints:
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint, None
        log.info(f"checkpoint {checkpoint} is damaged ({problem}): passed over, looking at the one before")
    if not checkpoints:
        return None, None
    return None, (
        f"every checkpoint under {directory} is damaged: bring one back from a copy, or move that directory away to "
        "begin anew"
    )
