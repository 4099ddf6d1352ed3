"""Guard the caches of compiled code: DeepSpeed's operators, Triton's and Inductor's kernels.

Their contents are loaded and run, so no other user may have written them. A start that is killed while it builds leaves
torch's lock, for which every later one would wait forever. Two versions of ninja on one cache rebuild each other's
operators at every start.
"""

import contextlib
import os
import shutil
import stat
import sys
import time
from pathlib import Path

import psutil

from shards.errors import InputError
from shards.files.trust import own_directory
from trainer.terminal.log import log

#: A lock that no process of this host holds may be another host's, on a shared folder; no build takes so long.
_ABANDONED_SECONDS = 300.0
#: On a disk of this host it is abandoned, unless a process has just made it.
_ABANDONED_HERE_SECONDS = 5.0
#: File systems of one host.
_LOCAL = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
_POLL_SECONDS = 0.5
#: Variables that set the caches. The defaults of the first two lie in the home directory.
_CACHES = ("TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def check_code_caches() -> None:
    """Make the caches that the environment names. Raise `InputError` for one that other users may write to."""
    for name in _CACHES:
        if os.environ.get(name):
            _own(Path(os.environ[name]), name)


def own_inductor_cache() -> None:
    """Check the caches, and that of `torch.compile` too, whose default is a fixed name in a shared directory."""
    is_chosen = bool(os.environ.get("TORCHINDUCTOR_CACHE_DIR"))  # before the import, which may set it
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if not is_chosen:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = default_cache_dir()
        _own(Path(default_cache_dir()), "TORCHINDUCTOR_CACHE_DIR")
        with contextlib.suppress(PermissionError):  # it may be root's
            os.chmod(default_cache_dir(), 0o700)  # torch makes it readable for all
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
    """Put the ninja that was installed with this Python first on PATH."""
    own = Path(sys.executable).parent
    if (own / "ninja").is_file() and shutil.which("ninja") != str(own / "ninja"):
        os.environ["PATH"] = f"{own}{os.pathsep}{os.environ.get('PATH', '')}"


def wait_for_builds(folder: Path | None = None) -> None:
    """Wait until no operator of `folder` (torch's cache of extensions) is being built, and remove abandoned locks.

    Every rank calls it before DeepSpeed loads its operators. Raises `InputError` for a default `folder` that other
    users may write to, and for an abandoned lock of another user.
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
    from torch.utils.cpp_extension import _get_build_directory

    # This makes the operator's folder.
    return Path(_get_build_directory("d2tv", False)).parent


def _is_local(folder: Path) -> bool:
    """Return True if no other host can be building there."""
    path = folder.resolve()
    mounts = {Path(partition.mountpoint): partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next((mounts[parent] in _LOCAL for parent in (path, *path.parents) if parent in mounts), False)


def _open_files(wanted: list[Path]) -> set[Path]:
    """Return those of `wanted` that a process of this host has open: torch keeps a lock open while it builds."""
    known = {path.resolve(): path for path in wanted}
    found: set[Path] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has ended, or is another user's
            found |= {known[path] for file in process.open_files() if (path := Path(file.path)) in known}
    return found
