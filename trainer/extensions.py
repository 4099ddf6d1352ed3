"""Compiled operators whose building was killed: torch leaves a lock, and every later start waits for it forever."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

#: A lock that no process of this host holds may be another host's, where the folder is shared; none builds so long.
_ABANDONED_SECONDS = 300.0
_POLL_SECONDS = 0.5


def wait_for_builds(folder: Path | None = None) -> None:
    """Wait until no operator of `folder` (torch's cache of extensions) is being built, and remove abandoned locks.

    Every rank calls it before DeepSpeed loads its operators.
    """
    folder = folder or _extensions()
    while locks := sorted(folder.glob("*/lock")):
        held = _open_files(locks)
        for lock in locks:
            try:
                age = time.time() - lock.stat().st_mtime
            except FileNotFoundError:  # built, or removed by another rank
                continue
            if lock not in held and age > _ABANDONED_SECONDS:
                lock.unlink(missing_ok=True)
                print(f"removed {lock}, left by a start that was killed while it compiled", file=sys.stderr, flush=True)
        time.sleep(_POLL_SECONDS)


def _extensions() -> Path:
    """Where torch builds, one folder an operator; as torch.utils.cpp_extension finds it."""
    from torch.utils.cpp_extension import _get_build_directory

    # Asking for an operator's folder makes it.
    return Path(_get_build_directory("d2tv", False)).parent


def _open_files(wanted: list[Path]) -> set[Path]:
    """Which of `wanted` a process of this host has open: torch keeps a lock open as long as it builds."""
    known = {path.resolve(): path for path in wanted}
    return {known[found] for found in _descriptors() if found in known}


def _descriptors() -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in os.scandir(process / "fd"):
                yield Path(os.readlink(descriptor.path))
        except OSError:  # gone meanwhile, or another user's
            continue
