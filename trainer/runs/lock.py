"""Lock a run directory, so that one training at a time writes into it.

`<run>/.lock` is held by the process that started the training: rank 0 itself, or the guard of `d2tv train`
(launcher/guard.py), also between two attempts. `<run>/.ranks.lock` is held by rank 0 alone, so that a new attempt
waits for the rank 0 of the last one, perhaps on another host. The kernel releases a lock when its process ends, and
flock works over NFS. The text in the file names the holder, for messages.
"""

import contextlib
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from shards.errors import InputError
from shards.files.lock import WITHOUT_LOCKS
from trainer.terminal.log import log

STARTED, RANKS = ".lock", ".ranks.lock"
#: Time for another holder to end before a start is refused: it may have been killed a moment ago.
PATIENCE_SECONDS = 5.0
#: The same for an attempt of `d2tv train`: watchdogs of other hosts may still be ending the last attempt.
OWN_RANKS_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.2
_LONGEST_TEXT = 4096
_TEXT_BEGINS = b'{"host": '


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Holder of a lock.

    started: name of the command, without its arguments, which may hold credentials.  token: tells ranks of `d2tv train`
    their supervisor.  ending: it only waits for its last processes.
    """

    host: str
    pid: int
    since: str
    started: str
    token: str = ""
    ending: bool = False

    @classmethod
    def of_this_process(cls, started: str, token: str = "") -> "Owner":
        """Describe the calling process as of now."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return cls(host=socket.gethostname(), pid=os.getpid(), since=since, started=started, token=token)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}, started by {self.started}"


class HeldError(InputError):
    """Another process holds the lock."""


class FileLock:
    """Exclusive lock on a file that names its owner, held until `release` or the end of the process.

    excludes: False where the file system has no locks.
    """

    def __init__(self, path: Path, handle: int, *, excludes: bool) -> None:
        self.excludes = excludes
        self._path, self._handle = path, handle

    @classmethod
    def take(cls, path: Path, owner: Owner) -> "FileLock | None":
        """Take the lock, or return None where another process or thread holds it.

        Raises `InputError` where `path` is no regular file, or cannot be written.
        """
        while True:
            handle = _open(path, os.O_RDWR | os.O_CREAT)
            try:
                excludes = _flock(handle, path, fcntl.LOCK_EX)
            except (BlockingIOError, InputError) as error:
                os.close(handle)
                if isinstance(error, InputError):
                    raise
                return None
            if _is_at(handle, path):  # else the file was removed meanwhile, and others lock its successor
                lock = cls(path, handle, excludes=excludes)
                lock.name(owner)
                return lock
            os.close(handle)

    def name(self, owner: Owner) -> None:
        """Write the owner into the file. A full disk is no reason to fail: the lock is held."""
        text = json.dumps(asdict(owner)).encode()
        with contextlib.suppress(OSError):
            if self._begins() in (b"", _TEXT_BEGINS):  # a file of another origin serves as a lock and keeps its text
                os.pwrite(self._handle, text, 0)
                os.ftruncate(self._handle, len(text))

    def release(self) -> None:
        """Release the lock, and remove its file: a process that locks the removed file looks again (`take`)."""
        with contextlib.suppress(OSError):
            if self.excludes and self._begins() == _TEXT_BEGINS and _is_at(self._handle, self._path):
                self._path.unlink()
        os.close(self._handle)

    def _begins(self) -> bytes:
        return os.pread(self._handle, len(_TEXT_BEGINS), 0)


def read_owner(path: Path) -> Owner | None:
    """Read the present or last holder of the lock at `path`; None where the file does not name one."""
    try:
        handle = _open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError, InputError):
        return None
    try:
        return TypeAdapter(Owner).validate_json(os.read(handle, _LONGEST_TEXT), strict=True)
    except (OSError, ValueError):
        return None
    finally:
        os.close(handle)


def take_patiently(
    path: Path, owner: Owner, what: str, *, patience: float, notify: Callable[[str], None] = log.info
) -> FileLock:
    """Take the lock of `what` at `path`; wait `patience` seconds for another holder, longer for one that is ending.

    Raises `HeldError`, which names the holder.
    """
    for _ in attempts(path, what, patience, notify):
        lock = FileLock.take(path, owner)
        if lock is not None:
            return lock
    raise AssertionError("unreachable: the attempts end by raising")


def check_free(run: Path, token: str | None) -> None:
    """Refuse a start of a run that another process holds (`HeldError`), before anything of it is read or joined.

    token: of the `d2tv train` that started this rank, else None. `hold_run` decides: this only spares the ranks of a
    second start from meeting first.
    """
    if _is_supervised(run, token):
        return
    for path in (run / STARTED, run / RANKS):
        for _ in attempts(path, str(run), PATIENCE_SECONDS, log.info):
            if _is_free(path):
                break


def _is_supervised(run: Path, token: str | None) -> bool:
    """Return True where the run's outer lock names the supervisor that gave this rank its token."""
    owner = read_owner(run / STARTED)
    return token is not None and owner is not None and owner.token == token


@contextlib.contextmanager
def hold_run(run: Path, token: str | None, started: str) -> Iterator[None]:
    """Hold the run for rank 0 alone in the block. Raises `HeldError` where another process holds it.

    token: as for `check_free`; the supervisor's guard then holds the outer lock already.  started: as in `Owner`.
    """
    owner = Owner.of_this_process(started)
    supervised = _is_supervised(run, token)
    with contextlib.ExitStack() as held:
        if not supervised:
            held.callback(take_patiently(run / STARTED, owner, str(run), patience=PATIENCE_SECONDS).release)
        patience = OWN_RANKS_PATIENCE_SECONDS if supervised else PATIENCE_SECONDS
        lock = take_patiently(run / RANKS, owner, str(run), patience=patience)
        held.callback(lock.release)
        if not lock.excludes:
            log.warning(f"the file system of {run} has no locks: see to it that nothing else trains in it")
        yield


def refusal(path: Path, what: str, owner: Owner | None) -> HeldError:
    """Return the error that `what` is in use, with its holder and what to do."""
    whose = str(owner) if owner is not None else "a process that does not say who it is"
    return HeldError(
        f"{what} is in use by {whose}: wait for its end, or choose another run= (remove {path} only if that host is "
        "gone for good)"
    )


def how_started(environment: Mapping[str, str], token: str | None) -> str:
    """Name the command that started a rank, from its environment."""
    if token is not None:
        return "`d2tv train`"
    if "TORCHELASTIC_RUN_ID" in environment:
        return "`torchrun launcher/train.py`"
    if "CROSS_SIZE" in environment:
        return "`deepspeed launcher/train.py`"
    if "SLURM_STEP_ID" in environment:
        return f"`srun`, job {environment.get('SLURM_JOB_ID', '?')}"
    return "`python launcher/train.py`"


def make_lock_file(path: Path) -> None:
    """Make the lock's file where it is missing. Raises `InputError` as `FileLock.take`."""
    os.close(_open(path, os.O_RDWR | os.O_CREAT))


def attempts(
    path: Path, what: str, patience: float, notify: Callable[[str], None], token: str | None = None
) -> Iterator[None]:
    """Yield for each attempt at the lock. Raise `HeldError` once the patience with its holder is over.

    token: a holder with this token is the caller's own.
    """
    began, notified = time.monotonic(), False
    while True:
        yield
        owner = read_owner(path)
        if _is_free(path) or (owner is not None and token is not None and owner.token == token):
            began = time.monotonic()
        waited = time.monotonic() - began
        if owner is not None and owner.ending:
            if not notified and waited > PATIENCE_SECONDS:
                notified = True
                notify(f"{what}: the last processes of {owner} are still stopping: waiting for their end")
        elif waited >= patience:
            raise refusal(path, what, owner)
        time.sleep(_POLL_SECONDS)


def _is_free(path: Path) -> bool:
    try:
        handle = _open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return True
    try:
        _flock(handle, path, fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _flock(handle: int, path: Path, kind: int) -> bool:
    """Lock without waiting; False where the file system has no locks. Raises `BlockingIOError` where it is held."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise InputError(f"{path} cannot be locked: {error.strerror}") from error
        return False
    return True


def _open(path: Path, flags: int) -> int:
    """Open a lock's regular file: its text is going to be replaced."""
    try:
        handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        if path.is_symlink():
            raise InputError(f"{path} is a link, not the lock of this directory: move it away") from error
        raise InputError(f"{path} cannot be opened ({error.strerror}): is the directory yours to write to?") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path} is no regular file, so it is not the lock of this directory: move it away")
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
