"""Wait for events. Nothing in the tests says how fast something must be: limits only keep a test from hanging."""

import time
from collections.abc import Callable

#: Seconds after which what a test waits for is taken to never come, on a machine with any load.
HANGING = 600.0


def until(
    reached: Callable[[], object],
    report: Callable[[], object] = str,
    seconds: float = HANGING,
    *,
    pause: float = 0.02,
) -> None:
    """Poll until `reached` returns something true, every `pause` seconds. Raises AssertionError with what `report`
    returns."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not reached in {seconds} s:\n{report()}"
        time.sleep(pause)
