"""CrossSum as it is published: compressed files and archives, read as their unpacked text; and names of all kinds."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.corpora import Source, open_source
from shards.corpora.listing import list_files
from shards.errors import InputError
from shards.problems import Problems
from shards.schema import Story
from tests.support.crosssum_tree import CrossSumTree

SPLITS = ("train", "validation", "test")


@pytest.fixture
def tree(tmp_path: Path) -> CrossSumTree:
    """Stories in three languages with a conflict in them, so that the order of the pairs shows; two problems."""
    tree = CrossSumTree(tmp_path / "data")
    for number in range(12):
        split = ("train", "val", "test")[number % 3]
        for language in ("english", "french", "hindi")[: 1 + number % 3]:
            tree.article(language, f"{language[0]}{number}", split=split, text=f"né {language} {number}\u2028 text")
        tree.pair(("french", f"f{number}"), ("english", f"e{number}"), split=split)
        tree.pair(("english", f"e{(number + 3) % 12}"), ("french", f"f{number}"), split=split)
    tree.line("xlsum/english_val.jsonl", "{")
    tree.article("french", "empty", text="\u200b")
    tree.write()
    return tree


def read(data: Path) -> tuple[list[tuple[str, Story]], Problems, Source]:
    """All stories with their splits, in order, and what was counted, in a directory without an index."""
    work = data.parent / f"work-{len(list(data.parent.iterdir()))}"
    work.mkdir()
    source = open_source("crosssum", cache=work, work=work, data=data, without_images=True)
    problems = Problems()
    problems.add(source.problems())
    stories = [(split, story) for split in SPLITS for story in source.load(split, 0, source.stories(split), problems)]
    assert sorted(path.name for path in work.iterdir()) == ["crosssum.lock", "crosssum.sqlite"]
    return stories, problems, source


def compressed(data: Path, out: Path, suffix: str, compress: Callable[[bytes], bytes]) -> Path:
    for path in data.rglob("*.jsonl"):
        target = out / path.relative_to(data).with_name(path.name + suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(compress(path.read_bytes()))
    return out


def tarred(data: Path, out: Path, name: str, mode: str, *, files: str = "*.jsonl") -> Path:
    """An archive in the order of the files' names backwards: pairs and articles mixed, not in the order of reading."""
    out.mkdir(exist_ok=True)
    with tarfile.open(out / name, mode) as archive:  # type: ignore[call-overload]
        for path in sorted(data.rglob(files), reverse=True):
            archive.add(path, f"./CrossSum_v1.0/{path.name}")
    return out


def of_languages(data: Path, out: Path) -> Path:
    """As XL-Sum and CrossSum publish theirs: an archive a language, and one a pair."""
    for name in {path.name.rpartition("_")[0] for path in data.rglob("*.jsonl")}:
        tarred(data, out, f"{name}_{'CrossSum' if '-' in name else 'XLSum_v2.0'}.tar.bz2", "w:bz2", files=f"{name}_*")
    return out


def zipped(data: Path, out: Path) -> Path:
    out.mkdir()
    with zipfile.ZipFile(out / "all.ZIP", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in data.rglob("*.jsonl"):
            archive.write(path, f"folder/{path.name}")
    return out


def twice(data: Path, out: Path) -> Path:
    """A compressed file in an archive; and, as after unpacking it there, beside the files themselves."""
    compressed(data, out / "plain", "", lambda content: content)
    return tarred(compressed(data, out.with_name("gz"), ".gz", gzip.compress), out, "a.tgz", "w:gz", files="*.gz")


PACKINGS: dict[str, Callable[[Path, Path], Path]] = {
    "gz": lambda data, out: compressed(data, out, ".gz", gzip.compress),
    "bz2": lambda data, out: compressed(data, out, ".BZ2", bz2.compress),
    "xz": lambda data, out: compressed(data, out, ".xz", lzma.compress),
    "gz by another name": lambda data, out: compressed(data, out, "", gzip.compress),
    "plain by another name": lambda data, out: compressed(data, out, ".gz", lambda content: content),
    "tar": lambda data, out: tarred(data, out, "crossSum_v1.0.tar", "w"),
    "tar.gz": lambda data, out: tarred(data, out, "all.TAR.GZ", "w:gz"),
    "tgz": lambda data, out: tarred(data, out, "all.tgz", "w:gz"),
    "tar.xz": lambda data, out: tarred(data, out, "all.txz", "w:xz"),
    "tar.bz2 a language": of_languages,
    "zip": zipped,
    "twice": twice,
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_files_give_the_stories_of_the_plain_ones(tree: CrossSumTree, tmp_path: Path, packing: str) -> None:
    plain, plain_problems, _ = read(tree.root)
    packed, problems, _ = read(PACKINGS[packing](tree.root, tmp_path / "packed"))
    assert packed == plain
    repeated = problems.counts.pop("repeated file", 0)
    assert repeated == (len(list(tree.root.rglob("*.jsonl"))) if packing == "twice" else 0)
    assert problems.counts == plain_problems.counts
    assert problems.counts["edge across stories"] > 0
    (broken,) = problems.named["broken line"]
    assert "english_val.jsonl" in broken
    assert ":5: is not JSON (Expecting property name" in broken


def test_a_source_with_packed_files_is_read_by_other_processes(tree: CrossSumTree, tmp_path: Path) -> None:
    """What is in memory, or a file without a name, would not reach them."""
    import pickle

    stories, _, source = read(tarred(tree.root, tmp_path / "packed", "all.tar", "w"))
    (tmp_path / "packed/all.tar").unlink()
    other = pickle.loads(pickle.dumps(source))
    assert [story for split in SPLITS for story in other.load(split, 0, 99, Problems())] == [s for _, s in stories]


def test_no_file_is_passed_over_without_a_word(tree: CrossSumTree) -> None:
    unknown = (
        "english_train.json",
        "english_train.csv",
        "english_train.jsonl.zst",
        "english_train.jsonl~",
        "english_train.txt",
        ".english_train.jsonl.Xb3",
        "english.jsonl",
        "images.h5.gz",
        "no suffix",
        "new\nline\x1b[2J",
    )
    other = (".DS_Store", "._english_train.jsonl.gz", "README", "Licence.txt", "a.JPG", ".git/config.json", "sums.md5")
    for name in (*unknown, *other):
        (tree.root / name).parent.mkdir(exist_ok=True)
        (tree.root / name).write_text("{}\n")
    (tree.root / "hindi_test.jsonl.gz").symlink_to("nowhere")
    os.mkfifo(tree.root / "fifo_train.jsonl")
    (tree.root / "urdu_train.jsonl").touch()
    (tree.root / "images.h5").touch()  # which --without-images leaves out by its name
    (tree.root / "xlsum/english_test.jsonl").rename(tree.root / "xlsum/ENGLISH_Test.JSONL")
    stories, problems, _ = read(tree.root)
    assert any(story.key == "e2" for _, story in stories)
    assert problems.counts["unknown file name"] == len(unknown)
    assert problems.counts["other file"] == len(other)
    assert problems.named["unreadable file"] == ["fifo_train.jsonl", "hindi_test.jsonl.gz: a link to nothing"]
    assert problems.named["empty file"] == ["urdu_train.jsonl"]
    assert all(line.isprintable() for line in problems.lines())


def test_members_that_are_no_text_are_named(tree: CrossSumTree, tmp_path: Path) -> None:
    packed = tarred(tree.root, tmp_path / "packed", "all.tar.gz", "w:gz")
    with tarfile.open(packed / "more.tar", "w") as archive:
        for name in ("a/english_train.csv", "a/._english_train.jsonl", "klingon_train.jsonl", "inner.tar.gz", "f.h5"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("english_test.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    _, problems, _ = read(packed)
    assert problems.counts["unknown file name"] == 4
    assert problems.named["unknown file name"][0] == "more.tar/a/english_train.csv"
    assert problems.named["other file"] == ["more.tar/a/._english_train.jsonl"]
    assert problems.named["unknown language"] == ["more.tar/klingon_train.jsonl: klingon"]


def cut(data: bytes, random: np.random.Generator) -> bytes:
    return data[: int(random.integers(1, len(data)))]


def changed(data: bytes, random: np.random.Generator) -> bytes:
    place = int(random.integers(0, len(data)))
    return data[:place] + bytes(random.integers(0, 256, 4).tolist()) + data[place + 4 :]


@pytest.mark.parametrize("damage", [cut, changed])
@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "tar", "tgz", "tar.xz", "tar.bz2 a language", "zip"])
def test_damage_is_counted_by_the_files_name_and_the_rest_is_read(
    tree: CrossSumTree, tmp_path: Path, packing: str, damage: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    packed = PACKINGS[packing](tree.root, tmp_path / "packed")
    victim = max((path for path in packed.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    sound = victim.read_bytes()
    random = np.random.default_rng(1)
    named = []
    for _ in range(12):
        victim.write_bytes(damage(sound, random))
        named += read(packed)[1].named.get("damaged file", [])
    # Where it is not noticed, no checksum is over it: padding, names and times, the text itself in a tar.
    assert len(named) > (0 if packing == "tar" else 2)
    assert all(name.startswith(str(victim.relative_to(packed))) and "\n" not in name for name in named)


def test_a_header_in_the_middle_that_is_damaged_is_not_taken_for_the_end(tree: CrossSumTree, tmp_path: Path) -> None:
    packed = tarred(tree.root, tmp_path / "packed", "all.tar", "w")
    data = (packed / "all.tar").read_bytes()
    with tarfile.open(packed / "all.tar") as archive:
        second = archive.getmembers()[1].offset
    for broken in (data[:second] + b"\xff" * 512 + data[second + 512 :], data[:second], data[: second + 100]):
        (packed / "all.tar").write_bytes(broken)
        work = tmp_path / f"work {len(broken)} {hash(broken)}"
        work.mkdir()
        source = open_source("crosssum", cache=work, work=work, data=packed, without_images=True)
        assert source.problems().counts["damaged file"] == 1


def test_the_disks_own_errors_are_no_damage(tree: CrossSumTree, tmp_path: Path) -> None:
    packed = PACKINGS["gz"](tree.root, tmp_path / "packed")
    next(packed.rglob("english_train*")).unlink()
    os.symlink("/proc/self/mem", packed / "english_train.jsonl.gz")  # reading it is EIO
    with pytest.raises(OSError, match="Input/output error"):
        read(packed)


def test_a_password_is_counted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("english_train.jsonl", "{}")
    encrypted = bytearray(content.getvalue())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(magic) + flags] |= 1
    (data / "a.zip").write_bytes(encrypted)
    assert "password" in read(data)[1].named["damaged file"][0]


@pytest.mark.parametrize("content", [b'{"url": "u\xe8"}\n' * 3, '{"url": "u"}\n'.encode("utf-16"), b"\0" * 5000])
def test_a_file_whose_every_line_is_broken_names_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/english_train.jsonl").write_bytes(content)
    stories, problems, _ = read(tmp_path / "data")
    assert not stories
    assert problems.summary(information=True).startswith("broken line ")
    assert "english_train.jsonl:1: is not " in problems.summary(information=True)


def test_a_line_beyond_measure_is_broken_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.text.lines.LONGEST", 1000)
    tree = CrossSumTree(tmp_path / "data")
    tree.article("english", "long", text="word " * 1000)
    tree.article("english", "short")
    tree.write()
    stories, problems, _ = read(tree.root)
    assert [story.key for _, story in stories] == ["short"]
    assert stories[0][1].articles[0].text == "text of short in english"
    assert problems.named["broken line"][0].startswith("xlsum/english_train.jsonl:1: is longer than")


def test_nothing_to_read_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "english_train.json").write_text("{}")
    with pytest.raises(InputError, match=r"no \.jsonl file below .*unknown file name 1 \(english_train\.json\)"):
        open_source("crosssum", cache=tmp_path, work=tmp_path, data=tmp_path, without_images=True)


def test_a_corpus_below_the_data_is_none_of_it(tree: CrossSumTree) -> None:
    """Its tars are no archives of texts, and while it is built the data stays the same."""
    before = list_files(tree.root, (".jsonl", ".tar"), lambda _: "unknown file name")
    for name in ("done/story_keys.txt", "done/train-000000.tar", "new.partial/prepare.lock", "new.partial/a/b.tar"):
        (tree.root / name).parent.mkdir(parents=True, exist_ok=True)
        (tree.root / name).touch()
    assert list_files(tree.root, (".jsonl", ".tar"), lambda _: "unknown file name") == before
