"""`d2tv prepare` beside files of others: it removes and replaces what it wrote, and nothing else."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.preparation.directory import begin, clean, held, leave, note_parts, scratch
from shards.errors import InputError
from shards.files.write import partial_file
from tests.support.crosssum_tree import CrossSumTree

SETTINGS = {"format_version": 2, "source": "help"}


def tree(root: Path) -> dict[str, str]:
    """Every path below `root` that is no directory -> its content, of a link where it leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_text(errors="replace")
    return found


def begun(work: Path, **changes: object) -> Path:
    """A directory in which a call with `SETTINGS` was killed, with a shard."""
    with held(work, alone=True):
        begin(work, SETTINGS | changes, alone=True)
    (work / "train-000000.tar").write_text("ours")
    (work / "train-000000.index.npz").write_text("ours")
    return work


def photos(work: Path) -> None:
    (work / "2019").mkdir(parents=True)
    (work / "2019" / "a.jpg").write_text("a picture")


def photos_and_their_settings(work: Path) -> None:
    photos(work)
    (work / "settings.json").write_text('{"camera": 1}')


def settings_of_others_in_our_place(work: Path) -> None:
    photos(work)
    scratch(work).mkdir()
    (scratch(work) / "settings.json").write_text('{"camera": 1}')


def broken_settings_in_our_place(work: Path) -> None:
    settings_of_others_in_our_place(work)
    (scratch(work) / "settings.json").write_bytes(b"\xff{")


def deep_settings_in_our_place(work: Path) -> None:
    settings_of_others_in_our_place(work)
    (scratch(work) / "settings.json").write_text("[" * 100_000)


def linked_settings(work: Path) -> None:
    photos(work)
    (work.parent / "note").write_text(json.dumps(SETTINGS))
    scratch(work).mkdir()
    (scratch(work) / "settings.json").symlink_to(work.parent / "note")


def linked_scratch(work: Path) -> None:
    work.mkdir()
    (work.parent / "elsewhere").mkdir()
    (work.parent / "elsewhere" / "settings.json").write_text(json.dumps(SETTINGS))
    scratch(work).symlink_to(work.parent / "elsewhere")


def begun_by_an_earlier_version(work: Path) -> None:
    work.mkdir()
    (work / "settings.json").write_text(json.dumps(SETTINGS))
    (work / "prepare.lock").touch()
    (work / "train-000000.tar").write_text("a shard")


def shards_alone(work: Path) -> None:
    work.mkdir()
    (work / "train-000000.tar").write_text("of whom?")


@pytest.mark.parametrize("share", [[], ["--part", "1/2"], ["--finish"]])
@pytest.mark.parametrize(
    "make",
    [
        photos,
        photos_and_their_settings,
        settings_of_others_in_our_place,
        broken_settings_in_our_place,
        deep_settings_in_our_place,
        linked_settings,
        linked_scratch,
        begun_by_an_earlier_version,
        shards_alone,
    ],
)
def test_a_directory_that_prepare_did_not_begin_is_refused_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None], share: list[str]
) -> None:
    data = CrossSumTree(tmp_path / "data")
    data.article("english", "u", text="a word " * 9)
    data.write()
    make(tmp_path / "photos.partial")
    before = tree(tmp_path)
    words = ["prepare", "crosssum", "--without-images", "--data", str(tmp_path / "data")]
    assert main([*words, "--out", str(tmp_path / "photos"), *share]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(tmp_path / "photos.partial") in said
    assert "remove it, or choose another --out" in said
    assert tree(tmp_path) == before


def test_other_settings_begin_anew_and_leave_what_others_put_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = begun(tmp_path / "work", stories=3)
    (work / "tokenizer").mkdir()
    (work / "tokenizer" / "spiece.model").write_text("ours")
    (work / "manifest.json").write_text("ours")
    partial_file(work / "train-000001.tar").write_text("ours")
    (scratch(work) / "crosssum.sqlite").write_text("ours")
    (tmp_path / "precious").write_text("kept")
    theirs = {
        "notes.sqlite": "theirs",
        "settings.json": "theirs",
        "download.partial": "theirs",
        "train-000000.tar.partial": "theirs",
        "train-0.tar": "theirs",
        "tokenizer/vocab.txt": "theirs",
        ".d2tv-prepare/todo": "theirs",
        "2019/articles.npy": "theirs",
    }
    (work / "2019").mkdir()
    for name, text in theirs.items():
        (work / name).write_text(text)
    (work / "test-000000.tar").symlink_to(tmp_path / "precious")
    (work / "text.bin").mkdir()
    with held(work, alone=True):
        begin(work, SETTINGS, alone=True)
    assert capsys.readouterr().out == f"{work} was begun with other settings or other data: beginning anew\n"
    left = tree(work)
    assert json.loads(left.pop(".d2tv-prepare/settings.json")) == SETTINGS
    assert left.pop("prepare.lock") == ""
    assert left.pop("test-000000.tar") == f"-> {tmp_path / 'precious'}"
    assert left == theirs
    assert (work / "text.bin").is_dir()


def test_work_of_parts_is_refused_and_stays(tmp_path: Path) -> None:
    work = begun(tmp_path / "work", stories=3)
    note_parts(work, 2)
    before = tree(work)
    for alone in (True, False):
        with held(work, alone=alone), pytest.raises(InputError, match="begun with other settings"):
            begin(work, SETTINGS, alone=alone)
    assert tree(work) == before


def test_only_abandoned_partial_files_of_ours_are_swept(tmp_path: Path) -> None:
    work = begun(tmp_path / "work")
    old, young = partial_file(work / "train-000001.tar"), partial_file(work / "train-000002.tar")
    theirs = [work / "film.partial", partial_file(work / "film"), work / "train-000001.tar.partial"]
    for path in (old, young, *theirs):
        path.touch()
    for path in (old, *theirs):
        os.utime(path, (0, time.time() - 7200))
    with held(work, alone=True):
        begin(work, SETTINGS, alone=True)
    assert {path.name for path in work.glob("*.partial")} == {young.name, *(path.name for path in theirs)}


def test_leaving_removes_an_untouched_directory_only(tmp_path: Path) -> None:
    with held(tmp_path / "new", alone=True):
        leave(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    work = begun(tmp_path / "work")
    before = tree(work)
    with held(work, alone=True):
        leave(work)
    assert tree(work) == before


def test_cleaning_a_corpus_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "settings.json").write_text("theirs")
    (tmp_path / "corpus").mkdir()
    scratch(tmp_path / "corpus").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "prepare.lock").write_text("not a lock of ours, which are empty")
    before = tree(tmp_path)
    clean(tmp_path / "corpus")
    assert tree(tmp_path) == before


def test_a_finished_corpus_keeps_what_others_put_into_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = CrossSumTree(tmp_path / "data")
    for number in range(9):
        data.article("english", f"u{number}", text=f"a word or {number} " * 9)
    data.write()
    out = tmp_path / "big disk"
    (tmp_path / "corpus").symlink_to(out)  # a link stays, and what it names is built
    words = ["prepare", "crosssum", "--without-images", "--vocab-size", "300", "--data", str(tmp_path / "data")]
    assert main([*words, "--out", str(tmp_path / "corpus")]) == 0, capsys.readouterr().err
    built = tree(out)
    assert not [name for name in built if "settings" in name or "sqlite" in name or "lock" in name]
    theirs = {
        "notes.sqlite": "theirs",
        "crosssum.sqlite": "theirs",
        "settings.json": "theirs",
        "parts.json": "theirs",
        "tokenizer-settings.json": "theirs",
        "download.partial": "theirs",
        "train-000000.tar.partial": "theirs",
    }
    for name, text in theirs.items():
        (out / name).write_text(text)
    scratch(out).mkdir()  # as a kill right behind the renaming leaves it
    (scratch(out) / "settings.json").write_text(json.dumps(SETTINGS))
    for _ in range(2):
        assert main([*words, "--out", str(tmp_path / "corpus")]) == 0
        assert tree(out) == built | theirs
        assert not scratch(out).exists()
    assert (tmp_path / "corpus").is_symlink()
