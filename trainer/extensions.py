"""The caches of compiled code: DeepSpeed's operators, Triton's and Inductor's kernels.

What lies in them is loaded and run, so nobody else may have put it there. A start that is killed while it builds leaves
torch's lock, for which every later one would wait forever. Two versions of ninja on one cache rebuild each other's
operators at every start.
"""

import contextlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from shards.errors import InputError
from shards.files.trust import own_directory
from trainer.terminal.log import log

#: A lock that no process of this host holds may be another host's, where the folder is shared; none builds so long.
_ABANDONED_SECONDS = 300.0
#: On a disk of our own it is nobody's: a moment for a process that has just made it.
_ABANDONED_HERE_SECONDS = 5.0
#: File systems of one host.
_LOCAL = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
_POLL_SECONDS = 0.5
#: Where compiled code is cached, if a person or a batch script said so. The defaults of the first two lie in the home.
_CACHES = ("TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def check_code_caches() -> None:
    """Make the caches of compiled code that the environment names, and refuse one that others may have filled.

    Raises: InputError for a cache that is not this user's, or root's, and no one else's to write.
    """
    for name in _CACHES:
        if os.environ.get(name):
            _own(Path(os.environ[name]), name)


def own_inductor_cache() -> None:
    """As `check_code_caches`, for the cache of `torch.compile`, whose default is a fixed name in a shared directory."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if not os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = default_cache_dir()
        _own(Path(default_cache_dir()), "TORCHINDUCTOR_CACHE_DIR")
        with contextlib.suppress(PermissionError):  # it may be root's
            os.chmod(default_cache_dir(), 0o700)  # torch, which makes it when it is imported, lets all read it
    check_code_caches()


def _own(directory: Path, name: str) -> None:
    try:
        own_directory(directory)
    except OSError as error:
        raise InputError(
            f"cannot use {error.filename or directory} for compiled code ({error.strerror or error}): remove it, or "
            f"set {name} to a directory of your own"
        ) from error


def use_own_ninja() -> None:
    """Put the ninja that was installed with this Python first on PATH, wherever the program was started from."""
    own = Path(sys.executable).parent
    if (own / "ninja").is_file() and shutil.which("ninja") != str(own / "ninja"):
        os.environ["PATH"] = f"{own}{os.pathsep}{os.environ.get('PATH', '')}"


def wait_for_builds(folder: Path | None = None) -> None:
    """Wait until no operator of `folder` (torch's cache of extensions) is being built, and remove abandoned locks.

    Only this user's locks are removed. Every rank calls it before DeepSpeed loads its operators.

    Raises: InputError for a default `folder` that others may have filled, and for an abandoned lock that is not this
        user's.
    """
    if folder is None:
        folder = _extensions()
        _own(folder, "TORCH_EXTENSIONS_DIR")
    patience = _ABANDONED_HERE_SECONDS if _is_local(folder) else _ABANDONED_SECONDS
    while locks := sorted(folder.glob("*/lock")):
        held = _open_files(locks)
        for lock in locks:
            try:
                status = os.lstat(lock)
            except FileNotFoundError:  # built, or removed by another rank
                continue
            if lock not in held and time.time() - status.st_mtime > patience:
                if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
                    raise InputError(
                        f"{lock} is not a lock of this user's, and nothing is built there: remove it, or set "
                        "TORCH_EXTENSIONS_DIR to a directory of your own"
                    )
                lock.unlink(missing_ok=True)
                log.warning(f"removed {lock}, left by a start that was killed while it compiled")
        time.sleep(_POLL_SECONDS)


def _extensions() -> Path:
    """Return where torch builds, one folder an operator; as torch.utils.cpp_extension finds it."""
    from torch.utils.cpp_extension import _get_build_directory

    # Asking for an operator's folder makes it.
    return Path(_get_build_directory("d2tv", False)).parent


def _is_local(folder: Path) -> bool:
    """Return True if no other host can be building there."""
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
