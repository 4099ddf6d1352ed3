"""What stands among the checkpoints and is not ours: it stays, it is said once, and every save succeeds."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import InputError
from tests.unit.trainer.test_checkpoint_retention import make, steps
from trainer.checkpoint.directory import damage, described, seal
from trainer.checkpoint.retention import commit, recover, retire, sweep
from trainer.checkpoint.tidying import clear, point, reading
from trainer.recipe.sections import CheckpointSection

#: How something strange comes to have a name: (what it is, how it is made at a path, given a directory elsewhere).
STRANGE: dict[str, Callable[[Path, Path], None]] = {
    "a link to a directory": lambda path, elsewhere: path.symlink_to(elsewhere),
    "a dangling link": lambda path, elsewhere: path.symlink_to(elsewhere / "nowhere"),
    "a link to itself": lambda path, elsewhere: path.symlink_to(path.name),
    "a file": lambda path, elsewhere: path.write_text("a person's notes\n") and None,
    "a pipe": lambda path, elsewhere: os.mkfifo(path),
}
NAMES = (
    ".staging-00000003",
    ".staging-foo",
    ".discarded-x",
    ".discarded-step-00000001",
    ".replaced-step-00000003",
    ".replaced-",
    "step-00000001",
    "step-00000003",
    "latest",
    "best",
)


def contents(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def save(directory: Path, step: int, settings: CheckpointSection) -> list[str]:
    """The steps of trainer/checkpoint/saver.py's rank 0; the lines to say."""
    lines = sweep(directory)
    staging = directory / f".staging-{step:08d}"
    lines += clear(staging)
    staging.mkdir()
    (staging / "state.json").write_text("{}")
    seal(staging, {"state.json": described(staging / "state.json")})
    lines += commit(staging, directory / f"step-{step:08d}")
    lines += point(directory / "latest", f"step-{step:08d}")
    return lines + retire(directory, directory / f"step-{step:08d}", settings)


@pytest.mark.parametrize("what", STRANGE)
def test_they_stay_and_no_save_fails(tmp_path: Path, what: str) -> None:
    """All names of ours taken at once."""
    elsewhere, directory = make(tmp_path / "elsewhere", 1).parent, tmp_path / "checkpoints"
    make(directory, 2)
    before = contents(elsewhere)
    for name in NAMES:
        STRANGE[what](directory / name, elsewhere / "step-00000001")
    strange = {(directory / name).lstat().st_ino for name in NAMES}
    lines = recover(directory)
    for step in (3, 4):
        lines += save(directory, step, CheckpointSection(keep_last=1))
        final = directory / f"step-{step:08d}"
        assert final.is_dir()
        assert not final.is_symlink()
        assert damage(final) is None
    assert contents(elsewhere) == before
    assert strange <= {path.lstat().st_ino for path in directory.iterdir()}
    linked = [1] if what == "a link to a directory" else []
    assert steps(directory) == [*linked, 4]
    silent = set() if linked else {"step-00000001"}  # no checkpoint, and in nobody's way
    assert {name for name in NAMES if not any(f"/{name} " in line for line in lines)} == silent
    assert all("\n" not in line for line in lines)


def test_directories_without_a_name_of_ours_stay_too(tmp_path: Path) -> None:
    make(tmp_path, 2)
    names = (".staging-foo", ".staging-7", ".discarded-x", ".replaced-", ".replaced-step-1", "latest", "best", "step-x")
    for name in names:
        (tmp_path / name / "inside").mkdir(parents=True)
    lines = recover(tmp_path)
    for step in (3, 4):
        lines += save(tmp_path, step, CheckpointSection(keep_last=1))
    assert all((tmp_path / name / "inside").is_dir() for name in names)
    assert steps(tmp_path) == [4]
    assert {name for name in names if not any(f"/{name} is left" in line for line in lines)} == {"step-x"}


def test_a_link_in_a_checkpoint_is_not_followed_and_what_a_person_put_there_is_kept(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    directory = tmp_path / "checkpoints"
    (make(directory, 1) / "notes.txt").write_text("the good one")
    (make(directory, 2) / "state-00000-of-00001.safetensors").symlink_to(elsewhere / "precious")
    (make(directory, 3) / "more").symlink_to(elsewhere)
    make(directory, 4)
    lines = retire(directory, make(directory, 5), CheckpointSection(keep_last=1))
    assert steps(directory) == [1, 2, 3, 5]
    assert len(lines) == 3
    assert "'notes.txt' in it is no file of a checkpoint" in "".join(lines)
    assert (elsewhere / "precious").read_text() == "x"


def test_what_is_being_read_is_dropped_later(tmp_path: Path) -> None:
    read = make(tmp_path, 1)
    with reading(read):
        assert retire(tmp_path, make(tmp_path, 2), CheckpointSection(keep_last=1)) == []
        assert steps(tmp_path) == [1, 2]
        assert damage(read) is None
    retire(tmp_path, make(tmp_path, 3), CheckpointSection(keep_last=1))
    assert steps(tmp_path) == [3]
    with pytest.raises(InputError, match="was dropped by its training a moment ago"), reading(read):
        pytest.fail("it has gone")


def test_what_stands_in_the_way_of_the_same_step_gets_another_name(tmp_path: Path) -> None:
    (make(tmp_path, 1) / "notes.txt").write_text("the good one")
    (line,) = save(tmp_path, 1, CheckpointSection())
    assert "step-00000001 was in the way and is now step-00000001.set-aside" in line
    assert (tmp_path / "step-00000001.set-aside" / "notes.txt").read_text() == "the good one"
    assert damage(tmp_path / "step-00000001") is None


def test_a_renaming_that_fails_brings_the_former_checkpoint_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = make(tmp_path, 1)
    before = contents(tmp_path)
    with pytest.raises(OSError, match="nowhere"):
        commit(tmp_path / "nowhere", final)
    sweep(tmp_path)
    assert contents(tmp_path) == before


def test_the_only_checkpoint_of_its_step_is_not_swept(tmp_path: Path) -> None:
    make(tmp_path, 1).rename(tmp_path / ".replaced-step-00000001")
    assert sweep(tmp_path) == []
    assert (tmp_path / ".replaced-step-00000001").is_dir()
