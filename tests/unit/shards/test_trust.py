"""Directories of caches: nobody else may have put them, or a link on the way, where everybody may write."""

import os
import stat
from pathlib import Path

import pytest

from shards.files.lock import locked
from shards.files.trust import check_owned, own_directory
from tests.support.users import STRANGER, needs_root
from tests.unit.shards.test_files import umask


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory like /tmp."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    return tmp_path / "tmp"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_where_all_may_write_is_for_its_owner_alone(shared: Path, tmp_path: Path) -> None:
    for _ in range(2):
        own_directory(shared / "cache" / "inner")
        own_directory(tmp_path / "home" / "cache")
    assert mode(shared / "cache") == 0o700
    assert mode(tmp_path / "home") == mode(tmp_path / "home" / "cache") == 0o777 & ~umask()


def test_even_without_a_umask_nothing_is_made_for_everybody(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        own_directory(tmp_path / "cache")
    finally:
        os.umask(before)
    assert mode(tmp_path / "cache") == 0o775
    own_directory(tmp_path / "cache")


@pytest.mark.parametrize("bits", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("depth", ["cache", "cache/inner"])
def test_a_directory_that_others_may_write_is_refused(shared: Path, bits: int, depth: str) -> None:
    (shared / "cache").mkdir()
    (shared / "cache").chmod(bits)
    with pytest.raises(PermissionError, match=r"others may write it: chmod go-w"):
        own_directory(shared / depth)
    assert not (shared / "cache" / "inner").exists()


def test_a_directory_like_tmp_is_no_cache_and_may_hold_one(shared: Path) -> None:
    (shared / "inner").mkdir()
    (shared / "inner").chmod(0o1777)
    for path in (shared, shared / "inner"):
        with pytest.raises(PermissionError, match="everybody may write it"):
            own_directory(path)
    own_directory(shared / "inner" / "cache")
    assert mode(shared / "inner" / "cache") == 0o700


def test_a_group_may_share_a_cache_where_not_everybody_writes(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o2775)
    own_directory(tmp_path / "cache")
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(PermissionError, match="everybody may write it"):
        own_directory(tmp_path / "cache")


@needs_root
@pytest.mark.parametrize("depth", ["cache", "cache/inner", "cache/inner/deep"])
def test_a_directory_of_another_user_is_refused(shared: Path, depth: str) -> None:
    (shared / "cache").mkdir(mode=0o700)
    os.chown(shared / "cache", STRANGER, STRANGER)
    with pytest.raises(PermissionError, match="belongs to another user") as caught:
        own_directory(shared / depth)
    assert caught.value.filename == str(shared / "cache")


@needs_root
def test_a_link_of_another_user_is_refused_and_ones_own_is_followed(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (shared / "cache").symlink_to(tmp_path / "elsewhere")
    own_directory(shared / "cache" / "inner")
    assert (tmp_path / "elsewhere" / "inner").is_dir()
    os.chown(shared / "cache", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(PermissionError, match="belongs to another user"):
        own_directory(shared / "cache" / "inner")
    # From a safe place into one where it is planted.
    (tmp_path / "home").symlink_to(shared / "cache")
    with pytest.raises(PermissionError, match="belongs to another user"):
        check_owned(tmp_path / "home" / "inner")


def test_a_file_and_a_dangling_link_are_no_directories(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    for name in ("file", "dangling", "round"):
        with pytest.raises(OSError, match=name):
            own_directory(tmp_path / name)


def test_a_lock_is_neither_a_link_nor_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "link").symlink_to("precious")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=name), locked(tmp_path / name):
            pass
