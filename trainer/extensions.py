"""Operators that DeepSpeed compiles at its first start, and what goes wrong with them at later ones.

A start that is killed while it builds leaves torch's lock, for which every later one would wait forever. And two
versions of ninja on one cache rebuild each other's operators at every start.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

#: A lock that no process of this host holds may be another host's, where the folder is shared; none builds so long.
_ABANDONED_SECONDS = 300.0
#: On a disk of our own it is nobody's: a moment for a process that has just made it.
_ABANDONED_HERE_SECONDS = 5.0
#: File systems of one host.
_LOCAL = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
_POLL_SECONDS = 0.5


def use_own_ninja() -> None:
    """Put the ninja that was installed with this Python first on PATH, wherever the program was started from."""
    own = Path(sys.executable).parent
    if (own / "ninja").is_file() and shutil.which("ninja") != str(own / "ninja"):
        os.environ["PATH"] = f"{own}{os.pathsep}{os.environ.get('PATH', '')}"


def wait_for_builds(folder: Path | None = None) -> None:
    """Wait until no operator of `folder` (torch's cache of extensions) is being built, and remove abandoned locks.

    Every rank calls it before DeepSpeed loads its operators.
    """
    folder = folder or _extensions()
    patience = _ABANDONED_HERE_SECONDS if _is_local(folder) else _ABANDONED_SECONDS
    while locks := sorted(folder.glob("*/lock")):
        held = _open_files(locks)
        for lock in locks:
            try:
                age = time.time() - lock.stat().st_mtime
            except FileNotFoundError:  # built, or removed by another rank
                continue
            if lock not in held and age > patience:
                lock.unlink(missing_ok=True)
                print(f"removed {lock}, left by a start that was killed while it compiled", file=sys.stderr, flush=True)
        time.sleep(_POLL_SECONDS)


def _extensions() -> Path:
    """Where torch builds, one folder an operator; as torch.utils.cpp_extension finds it."""
    from torch.utils.cpp_extension import _get_build_directory

    # Asking for an operator's folder makes it.
    return Path(_get_build_directory("d2tv", False)).parent


def _is_local(folder: Path) -> bool:
    """Whether no other host can be building there."""
    path = folder.resolve()
    mounts = {Path(partition.mountpoint): partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next((mounts[parent] in _LOCAL for parent in (path, *path.parents) if parent in mounts), False)


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
