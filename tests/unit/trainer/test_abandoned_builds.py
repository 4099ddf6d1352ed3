"""Locks of torch's operator cache: those that are held are waited for, those that a kill left are removed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from shards.errors import InputError
from tests.support.users import STRANGER, needs_root
from trainer.extensions import _is_local, check_code_caches, own_inductor_cache, use_own_ninja, wait_for_builds

#: Takes the lock as torch does, says so, and builds for a while.
BUILDER = """
import sys, time
from torch.utils.file_baton import FileBaton
baton = FileBaton(sys.argv[1])
assert baton.try_acquire()
print("building", flush=True)
time.sleep(float(sys.argv[2]))
baton.release()
"""


def builder(lock: Path, seconds: float) -> subprocess.Popen[bytes]:
    lock.parent.mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", BUILDER, str(lock), str(seconds)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"building\n"
    return process


def age(lock: Path) -> None:
    """Make it ten minutes older."""
    long_ago = time.time() - 600
    os.utime(lock, (long_ago, long_ago))


def test_a_lock_whose_builder_was_killed_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "cpu_adam" / "lock"
    process = builder(lock, 600)
    process.kill()
    process.wait()
    assert lock.exists()
    age(lock)
    wait_for_builds(tmp_path)
    assert not lock.exists()
    assert str(lock) in capsys.readouterr().err


def test_on_a_disk_of_this_host_an_abandoned_lock_costs_seconds(tmp_path: Path) -> None:
    """And not the minutes that another host, which might hold it, is given."""
    lock = tmp_path / "cpu_adam" / "lock"
    process = builder(lock, 600)
    process.kill()
    process.wait()
    assert _is_local(tmp_path)
    assert not _is_local(Path("/proc/self"))
    os.utime(lock, (time.time() - 10, time.time() - 10))
    wait_for_builds(tmp_path)
    assert not lock.exists()


@pytest.mark.parametrize("path", ["/usr/bin:/bin", ""])
def test_the_ninja_of_this_python_is_the_one_that_builds(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("PATH", path)
    use_own_ninja()
    own = Path(sys.executable).with_name("ninja")
    assert own.is_file(), "it is a dependency"
    assert shutil.which("ninja") == str(own)
    first = os.environ["PATH"]
    use_own_ninja()
    assert os.environ["PATH"] == first


def test_a_build_is_waited_for_however_long_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "cpu_adam" / "lock"
    process = builder(lock, 3)
    age(lock)
    wait_for_builds(tmp_path)
    assert not lock.exists()
    assert process.wait() == 0  # which removed its lock itself
    assert capsys.readouterr().err == ""


def test_nothing_is_waited_for_where_nothing_is_built(tmp_path: Path) -> None:
    (tmp_path / "cpu_adam").mkdir()
    wait_for_builds(tmp_path)
    wait_for_builds(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == [tmp_path / "cpu_adam"]


CACHES = ("TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory like /tmp, and no caches that the environment names."""
    for name in CACHES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    return tmp_path / "tmp"


def test_caches_of_code_are_made_for_this_user_alone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CACHES:
        monkeypatch.setenv(name, str(shared / "d2tv-0" / name))
    for _ in range(2):
        check_code_caches()
    assert (shared / "d2tv-0").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (shared / "d2tv-0").iterdir()) == sorted(CACHES)


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_of_code_that_others_may_have_filled_is_refused(
    shared: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (shared / "cache").mkdir()
    (shared / "cache").chmod(0o777)
    monkeypatch.setenv(name, str(shared / "cache"))
    with pytest.raises(InputError, match=rf"others may write it.*set {name} to a directory of your own") as caught:
        check_code_caches()
    assert "\n" not in str(caught.value)


@needs_root
def test_the_default_cache_of_torch_compile_is_looked_at(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name follows from the user's, in the directory for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    own_inductor_cache()
    cache = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert cache.parent == shared
    assert cache.stat().st_mode & 0o777 == 0o700
    os.chown(cache, STRANGER, STRANGER)
    with pytest.raises(InputError, match="belongs to another user"):
        own_inductor_cache()
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


@needs_root
def test_an_abandoned_lock_of_another_user_is_not_removed(tmp_path: Path) -> None:
    lock = tmp_path / "cpu_adam" / "lock"
    lock.parent.mkdir()
    lock.touch()
    age(lock)
    os.chown(lock, STRANGER, STRANGER)
    with pytest.raises(InputError, match="is not a lock of this user's"):
        wait_for_builds(tmp_path)
    assert lock.exists()
