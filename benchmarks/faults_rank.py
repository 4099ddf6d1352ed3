"""One rank of a run of `benchmarks.faults`: launcher/train.py, which also notes the slots of every attempt at a step.

A line of the file D2TV_NOTES is `[attempt, [slot, ...]]`, written when the batches are there and before they train.
"""

import json
import os
import sys

from launcher.train import main
from shards.batch.types import StreamBatch
from trainer.loop import Trainer


def note_slots(path: str) -> None:
    """Have the trainer write its slots to `path`; a kill loses no line that was written."""
    fetch = Trainer.fetch
    notes = open(path, "ab", buffering=0)  # noqa: SIM115

    def noting(trainer: Trainer) -> tuple[list[StreamBatch], float]:
        batches, waited = fetch(trainer)
        slots = [slot for batch in batches for slot in batch.slot_B.tolist()]
        notes.write(f"{json.dumps([trainer.attempts, slots])}\n".encode())
        return batches, waited

    Trainer.fetch = noting  # type: ignore[method-assign]


if __name__ == "__main__":
    note_slots(os.environ["D2TV_NOTES"])
    code = main()
    sys.stdout.flush()
    sys.exit(code)
