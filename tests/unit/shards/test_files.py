"""Where files may be written: regular files alone, links resolved, whole or as before."""

import os
import re
import resource
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cli import main
from shards.errors import InputError
from shards.files.write import (
    check_output,
    destination,
    is_regular,
    left_overs,
    partial_file,
    write_atomically,
    write_output,
)
from tests.support.users import STRANGER, needs_root


def device(path: Path) -> None:
    """Make a null device of our own: the host's must not be at risk."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = Path.cwd()
        os.chdir(path.parent)  # a socket's name is short
        try:
            made.bind(path.name)
        finally:
            os.chdir(before)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "FIFO": (os.mkfifo, "a FIFO"),
    "socket": (bound_socket, "a socket"),
    "directory": (Path.mkdir, "a directory"),
}


def assert_refused(path: Path, why: str) -> None:
    """By the writer and by the check before the work, in one line that names the path and what to do."""
    before = {each: os.lstat(each).st_mode for each in path.parent.iterdir()}
    for refuse in (lambda: write_output(path, "text"), lambda: check_output(path)):
        with pytest.raises(InputError, match=why) as caught:
            refuse()
        assert str(path) in str(caught.value)
        assert str(caught.value).endswith(": name another file")
        assert "\n" not in str(caught.value)
    assert {each: os.lstat(each).st_mode for each in path.parent.iterdir()} == before


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_also_behind_a_link(tmp_path: Path, kind: str, linked: bool) -> None:
    make, why = KINDS[kind]
    make(tmp_path / "it")
    (tmp_path / "link").symlink_to("it")
    assert_refused(tmp_path / ("link" if linked else "it"), f"it is {why}, not a regular file")


@needs_root
@pytest.mark.parametrize("linked", [False, True])
def test_a_device_stays_a_device(tmp_path: Path, linked: bool) -> None:
    try:
        device(tmp_path / "null")
    except PermissionError:
        pytest.skip("no devices can be made here")
    (tmp_path / "link").symlink_to(tmp_path / "null")
    assert_refused(tmp_path / ("link" if linked else "null"), "it is a device, not a regular file")


def test_an_open_file_of_a_process_is_no_destination_even_if_it_is_regular(tmp_path: Path) -> None:
    """Standard output that goes to a file would be replaced under the shell that writes it."""
    with open(tmp_path / "log", "w") as log:
        link = tmp_path / "stdout"
        link.symlink_to(f"/proc/self/fd/{log.fileno()}")  # as /dev/stdout is made
        assert_refused(link, "it stands for an open file, like standard output")
        log.write("kept")
    assert (tmp_path / "log").read_text() == "kept"


@pytest.mark.parametrize("target", ["there/page.html", "there/../there/new.html"])
def test_a_link_stays_and_the_file_that_it_names_is_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "page.html").write_text("before")
    (tmp_path / "link").symlink_to("second")
    (tmp_path / "second").symlink_to(target)
    write_output(tmp_path / "link", "after")
    assert os.readlink(tmp_path / "link") == "second"
    assert os.readlink(tmp_path / "second") == target
    assert (tmp_path / target).read_text() == "after"
    assert not list(tmp_path.rglob("*.partial"))


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("missing/page.html")
    assert_refused(tmp_path / "gone", "there is no directory .*missing")
    (tmp_path / "round").symlink_to("round")
    assert_refused(tmp_path / "round", "Too many levels of symbolic links")


def test_a_missing_directory_and_a_file_as_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no directory .*nowhere"):
        check_output(tmp_path / "nowhere" / "page.html")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        write_output(tmp_path / "file" / "page.html", "text")
    with pytest.raises(InputError, match="cannot be written"):
        check_output(tmp_path / "file" / "page.html")
    check_output(None)
    check_output(tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a full disk fails the same write with another number
    try:
        with pytest.raises(InputError, match=r"File too large\): name another file"):
            write_output(path, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert_refused(tmp_path / "page.html", "cannot be written")


@needs_root
def test_another_users_link_in_a_directory_of_all_is_not_followed(tmp_path: Path) -> None:
    shared, precious = tmp_path / "shared", tmp_path / "precious"
    shared.mkdir()
    shared.chmod(0o1777)
    precious.write_text("kept")
    (shared / "page.html").symlink_to(precious)
    write_output(shared / "page.html", "our own link")
    os.chown(shared / "page.html", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(InputError, match="is a link of another user's"):
        write_output(shared / "page.html", "planted")
    assert precious.read_text() == "our own link"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "page.html"
    path.touch()
    path.chmod(mode)
    write_output(path, "text")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    write_output(tmp_path / "new.html", "text")
    assert stat.S_IMODE((tmp_path / "new.html").stat().st_mode) == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@needs_root
def test_root_does_not_take_a_file_from_its_owner_nor_give_one_to_a_stranger(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for path in (tmp_path / "page", shared / "page"):
        path.touch()
        path.chmod(0o606)
        os.chown(path, STRANGER, STRANGER)
    shared.chmod(0o1777)
    for path in (tmp_path / "page", shared / "page"):
        write_output(path, "text")
    assert (tmp_path / "page").stat().st_uid == STRANGER
    assert (shared / "page").stat().st_uid == 0
    assert stat.S_IMODE((shared / "page").stat().st_mode) == 0o666 & ~umask()


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)  # 254 bytes
    write_atomically(path, b"text")
    assert path.read_bytes() == b"text"
    with pytest.raises(InputError, match="File name too long"):
        write_output(tmp_path / ("x" * 256), "text")


def test_left_overs_are_what_writers_of_known_names_left(tmp_path: Path) -> None:
    names = re.compile(r"[a-z]+\.npy")
    ours = partial_file(tmp_path / "articles.npy")
    ours.touch()
    others = [
        partial_file(tmp_path / "notes.txt"),
        tmp_path / "articles.npy.partial",
        tmp_path / "articles.npy.0123.partial",
        tmp_path / "photos.partial",
    ]
    for path in others:
        path.touch()
    partial_file(tmp_path / "linked.npy").symlink_to(others[0])
    partial_file(tmp_path / "folder.npy").mkdir()
    assert list(left_overs(tmp_path, names)) == [ours]
    assert is_regular(ours)
    assert not is_regular(tmp_path / "missing")


def test_a_relative_name_is_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert destination(Path("page.html")) == tmp_path.resolve() / "page.html"


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "a", "b", "--out"),
        ("compare", "a", "b", "--format", "html", "--out"),
        ("report", "run", "--out"),
        ("inspect", "corpus", "--html"),
        ("preview", "corpus", "--story", "x", "--out"),
    ],
)
def test_commands_refuse_a_destination_before_they_read_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main([*words, str(tmp_path / "pipe")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/pipe cannot be written (it is a FIFO, not a regular file): name another")
    assert said.count("\n") == 1
    assert ("standard output" in said) == (words[0] == "compare")
