"""`d2tv verify` on real corpora, whole and damaged in every way that a disk or a hand can: each is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from numpy.typing import NDArray

from launcher.cli import main
from shards.format.index import Corpus
from shards.format.merge import finish_corpus
from shards.format.records import ARTICLE
from shards.format.writer import write_shard
from tests.support.sealing import reseal
from tests.support.strange import LANGUAGES, strange_stories
from tests.support.tiny import make_corpus, make_stories

SHARD = "train-000001.tar"


@pytest.fixture
def copy(tiny_corpus: Corpus, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_corpus.directory, tmp_path / "corpus"))


def verified(directory: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    """The exit code and the problems."""
    code = main(["verify", str(directory), *(options or ("--workers", "1"))])
    lines = capsys.readouterr().out.splitlines()
    return code, [line.removeprefix("  ") for line in lines if line.startswith("  ")]


def flip(path: Path, place: int, bit: int = 4) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def articles(directory: Path) -> NDArray[np.void]:
    return np.load(directory / "articles.npy")


def record(directory: Path, shard: str = SHARD, **wanted: Any) -> tuple[int, np.void]:
    """A row of `shard` with images, and its record."""
    number = [each["name"] for each in json.loads((directory / "manifest.json").read_text())["shards"]].index(shard)
    table = articles(directory)
    row = int(np.flatnonzero((table["shard"] == number) & (table["images"] > 1))[0])
    return row, table[row]


def rewrite_articles(directory: Path, change: Callable[[NDArray[np.void]], None]) -> None:
    table = articles(directory)
    change(table)
    np.save(directory / "articles.npy", table)


def without_parts(directory: Path) -> None:
    for part in directory.glob("*.index.npz"):
        part.unlink()


def test_a_sound_corpus(tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tiny_corpus.directory), "--workers", "2"]) == 0
    shown = capsys.readouterr()
    assert "sound" in shown.out
    assert tiny_corpus.content_hash in shown.out
    assert f"{len(tiny_corpus.articles):,} articles" in shown.out


def test_a_sound_corpus_with_own_and_many_images_and_strange_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    write_shard(tmp_path / "train-000000.tar", strange_stories(), LANGUAGES)
    finish_corpus(tmp_path, name="strange", languages=LANGUAGES, provenance={})
    assert verified(tmp_path, capsys) == (0, [])
    without_parts(tmp_path)  # which nothing but the making of a corpus needs
    assert verified(tmp_path, capsys) == (0, [])


@pytest.mark.parametrize("kind", ["json", "roi", "boxes"])
def test_a_flipped_bit_in_a_member(copy: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    _, of = record(copy)
    flip(copy / SHARD, int(of[f"{kind}_offset"]) + int(of[f"{kind}_length"]) // 2)
    code, [problem] = verified(copy, capsys)
    key = (copy / "story_keys.txt").read_text().splitlines()[of["story"]]
    assert code == 1
    assert problem.startswith(f"{SHARD}: {key}.")
    assert f".{'json' if kind == 'json' else kind + '.npy'} at byte {of[f'{kind}_offset']}: its checksum" in problem


def test_every_single_bit_of_a_tar_is_vouched_for(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Headers, padding and the zeros at the end included: bits drawn over the whole file."""
    sound = (copy / SHARD).read_bytes()
    random = np.random.default_rng(0)
    places = [0, 120, 511, len(sound) - 1, *random.integers(0, len(sound), 12)]
    _, of = record(copy)
    places.append(int(of["json_offset"]) + int(of["json_length"]))  # the first byte of padding
    for place in places:
        (copy / SHARD).write_bytes(sound)
        flip(copy / SHARD, int(place), bit=int(random.integers(0, 8)))
        code, problems = verified(copy, capsys)
        assert code == 1, place
        assert all(problem.startswith(SHARD) for problem in problems), (place, problems)


def test_a_flipped_bit_in_text_bin(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, of = record(copy)
    flip(copy / "text.bin", int(of["text_offset"]) + 3)
    code, problems = verified(copy, capsys)
    assert code == 1
    assert len(problems) == 2
    assert problems[0].startswith("text.bin: is not what was written")
    assert problems[1].startswith(f"text.bin, at byte {of['text_offset']}: the checksum of the text of ")
    assert SHARD in problems[1]


@pytest.mark.parametrize("name", ["articles.npy", "story_keys.txt", "edges-train.npy", "tokenizer/tokenizer.model"])
def test_a_flipped_bit_in_a_file_of_the_index(copy: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    if not (copy / name).is_file():
        name = f"tokenizer/{sorted(path.name for path in (copy / 'tokenizer').iterdir())[0]}"
    flip(copy / name, (copy / name).stat().st_size // 2)
    code, problems = verified(copy, capsys)
    assert code == 1
    assert problems[0] == f"{name}: is not what was written (its SHA-256 differs)"


@pytest.mark.parametrize("field", ARTICLE.names or ())
def test_every_field_of_an_article_is_checked(copy: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    """Also where the hashes were made to fit, and the shards' own parts are gone."""
    row, of = record(copy)

    def change(table: NDArray[np.void]) -> None:
        table[field][row] += 1

    rewrite_articles(copy, change)
    without_parts(copy)
    reseal(copy)
    code, problems = verified(copy, capsys)
    assert code == 1
    key = (copy / "story_keys.txt").read_text().splitlines()[of["story"]]
    assert any(f"row {row}:" in problem or key in problem for problem in problems), problems


def test_a_truncated_tar(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (copy / SHARD).read_bytes()
    (copy / SHARD).write_bytes(data[: len(data) // 2 + 100])
    code, problems = verified(copy, capsys)
    assert code == 1
    assert problems[0] == f"{SHARD}: is {len(data) // 2 + 100:,} bytes, the manifest says {len(data):,}"
    assert any("is cut off" in problem for problem in problems)
    assert all(problem.startswith(SHARD) for problem in problems)


def test_exchanged_shards(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = copy / SHARD, copy / "train-000000.tar"
    aside = one.rename(copy / "aside")
    two.rename(one)
    aside.rename(two)
    assert verified(copy, capsys) == (
        1,
        ["train-000000.tar and train-000001.tar are exchanged: each holds the articles of the other"],
    )
    shutil.copy(one, two)
    assert verified(copy, capsys) == (1, [f"{SHARD}: holds the articles of train-000000.tar, and none of its own"])


def test_a_tar_of_another_index(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same stories prepared anew, with other images: the names are right and nothing else is."""
    other = make_corpus(tmp_path / "other", seed=1)
    shutil.copy(other.directory / SHARD, copy / SHARD)
    code, problems = verified(copy, capsys)
    assert code == 1
    assert all(problem.startswith(SHARD) for problem in problems)
    assert any("belongs to another index: the tar is whole, but " in problem for problem in problems)


def test_the_index_of_another_tar(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = SHARD.replace(".tar", ".index.npz")
    other = make_corpus(tmp_path / "other", seed=1)
    shutil.copy(other.directory / part, copy / part)
    code, [problem] = verified(copy, capsys)
    assert (code, problem) == (1, f"{part}: does not say what the corpus' index says of {SHARD}")


def test_a_tar_of_another_corpus(copy: Path, tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    stories = [story for story in make_stories(tiny_corpus.languages, 130) if story.key > "story-0100"]
    write_shard(copy / SHARD, stories, tiny_corpus.languages)
    code, problems = verified(copy, capsys)
    assert code == 1
    assert f"{SHARD}: belongs to another corpus: it begins with story-0101.english.json" in problems[-1]


def test_a_value_that_is_not_finite_under_a_right_checksum(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, of = record(copy)
    data = bytearray((copy / SHARD).read_bytes())
    end = {kind: int(of[f"{kind}_offset"]) + int(of[f"{kind}_length"]) for kind in ("roi", "boxes")}
    data[end["roi"] - 2 : end["roi"]] = np.float16(np.nan).tobytes()
    data[end["boxes"] - 4 : end["boxes"]] = np.float32(1.5).tobytes()
    (copy / SHARD).write_bytes(data)

    def change(table: NDArray[np.void]) -> None:
        for kind in ("roi", "boxes"):
            begin = int(of[f"{kind}_offset"])
            same = (table["shard"] == of["shard"]) & (table[f"{kind}_offset"] == begin)
            table[f"{kind}_crc"][same] = google_crc32c.value(bytes(data[begin : end[kind]]))

    rewrite_articles(copy, change)
    without_parts(copy)
    reseal(copy)
    code, problems = verified(copy, capsys)
    assert code == 1
    assert len(problems) == 2
    assert ".roi.npy: 1 of " in problems[0]
    assert "are not finite" in problems[0]
    assert ".boxes.npy: 1 of " in problems[1]
    assert "outside [0, 1]" in problems[1]


def test_a_story_in_two_splits(tmp_path: Path, tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_stories(tiny_corpus.languages, 6)
    write_shard(tmp_path / "train-000000.tar", made, tiny_corpus.languages)
    write_shard(tmp_path / "test-000000.tar", made[2:3], tiny_corpus.languages)
    finish_corpus(tmp_path, name="leaky", languages=tiny_corpus.languages, provenance={})
    code, [problem] = verified(tmp_path, capsys)
    assert code == 1
    assert problem == f"story_keys.txt: {made[2].key} comes twice, in train-000000.tar and in test-000000.tar"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda edges: edges.__setitem__((5, 0), 10**6), "edge 5: joins row"),
        (lambda edges: edges.__setitem__((5, 1), edges[9, 1]), "edge 5: joins articles of two stories"),
        (lambda edges: edges.__setitem__((5, 1), edges[5, 1] + 1), "edge 5: is "),
        (lambda edges: edges.__setitem__(5, edges[4]), "edge 5: comes twice"),
    ],
)
def test_edges(
    copy: Path, capsys: pytest.CaptureFixture[str], change: Callable[[NDArray[np.int32]], None], problem: str
) -> None:
    edges = np.load(copy / "edges-train.npy")
    change(edges)
    np.save(copy / "edges-train.npy", edges)
    reseal(copy)
    code, problems = verified(copy, capsys)
    assert code == 1
    assert any(f"edges-train.npy, {problem}" in each for each in problems), problems


def test_every_byte_of_the_headers_of_the_tables(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """numpy reads them as Python's own syntax, and raises what Python does for it."""
    random = np.random.default_rng(0)
    for name in ("articles.npy", "edges-train.npy", "directions-train.npy"):
        sound = (copy / name).read_bytes()
        changes = [(place, int(byte)) for place, byte in enumerate(random.integers(0, 256, 128))]
        for place, byte in [*changes[::16], *((10 + i, ord(mark)) for i, mark in enumerate("({'\"\\\n #0"))]:
            (copy / name).write_bytes(sound[:place] + bytes([byte]) + sound[place + 1 :])
            code, problems = verified(copy, capsys)
            assert code == (sound[place] != byte), (name, place, byte)
            assert all(": " in problem for problem in problems), problems
        (copy / name).write_bytes(sound)


def test_the_index_of_a_shard_is_compared_by_content(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / SHARD.replace(".tar", ".index.npz")
    with np.load(path) as saved:
        sound = dict(saved)
    path.write_bytes(path.read_bytes() + bytes(40))
    assert verified(copy, capsys) == (0, [])
    edges = sound["edges"].copy()
    edges[3, 1] = len(sound["articles"]) - 1
    for change, problem in (
        ({"edges": edges}, "its edges do not each join two articles of one story"),
        ({"edges": edges[:, :1]}, "its edges are no pairs of rows"),
        ({"edges": -1 - edges}, "its edges name articles -"),
        ({"keys": sound["keys"][:-1]}, "its articles are of "),
        ({"width": sound["width"] + 1}, f"does not say what the corpus' index says of {SHARD}"),
        ({"problems": "{"}, "is damaged ("),
    ):
        np.savez(path, **(sound | change))
        code, [found] = verified(copy, capsys)
        assert code == 1
        assert found.startswith(f"{path.name}: {problem}")


def test_edges_of_another_split_and_directions_that_do_not_add_up(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("edges", "directions"):
        shutil.copy(copy / f"{kind}-validation.npy", copy / f"{kind}-test.npy")
    starts = np.load(copy / "directions-train.npy")
    starts[3] = starts[-1] + 1
    np.save(copy / "directions-train.npy", starts)
    reseal(copy)
    code, problems = verified(copy, capsys)
    assert code == 1
    assert any(p.startswith("edges-test.npy, edge 0: joins articles of validation-0") for p in problems)
    assert any(p.startswith("directions-train.npy: does not divide") for p in problems)


def test_everything_at_once_and_only_twenty_in_full(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that cannot be opened do not end it: what is left is checked, the tars by themselves if need be."""
    (copy / "validation-000000.tar").unlink()
    shutil.copy(copy / SHARD, copy / "train-000099.tar")
    (copy / "articles.npy").write_bytes(b"nothing")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["splits"]["test"]["stories"] += 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    data = bytearray((copy / SHARD).read_bytes())
    for place in range(len(data)):  # every document of the shard
        if data[place : place + 8] == b'{"url": ':
            data[place] = ord("[")
    (copy / SHARD).write_bytes(data)
    code = main(["verify", str(copy), "--workers", "2"])
    shown = capsys.readouterr().out.splitlines()
    assert code == 1
    for begin in (
        "manifest.json: was changed after it was written",
        "manifest.json: says ",
        "articles.npy: is 7 bytes",
        "articles.npy: is damaged",
        f"{SHARD}: story-",
    ):
        assert any(line.strip().startswith(begin) for line in shown), (begin, shown)
    assert len([line for line in shown if line.startswith("  ")]) == 21
    count = int(shown[0].split(": ")[1].split()[0].replace(",", ""))
    assert shown[-2].startswith(f"  and {count - 20:,} more. In all: ")
    assert f"of {SHARD}" in shown[-2]


@pytest.mark.parametrize(
    ("break_it", "fix"),
    [
        (lambda d: (d / "manifest.json").unlink(), "no corpus at"),
        (lambda d: (d / "manifest.json").write_text("{"), "is not JSON"),
        (lambda d: (d / "manifest.json").write_text('{"format_version": 1}'), "prepare the corpus again"),
        (lambda d: (d / "manifest.json").write_text('{"format_version": 2}'), "lacks 'languages'"),
    ],
)
def test_what_cannot_be_verified(
    copy: Path, capsys: pytest.CaptureFixture[str], break_it: Callable[[Path], None], fix: str
) -> None:
    break_it(copy)
    assert main(["verify", str(copy)]) == 2
    error = capsys.readouterr().err
    assert fix in error
    assert error.count("\n") == 1


def test_what_verify_does_not_do(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(copy), "--workers", "0"]) == 2
    assert "--workers must be at least 1" in capsys.readouterr().err
    assert main(["verify", "https://example.org/corpus"]) == 2
    assert "verify reads directories" in capsys.readouterr().err


def test_what_lies_in_place_of_a_shards_index_is_told_of(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = copy / SHARD.replace(".tar", ".index.npz")
    part.unlink()
    assert verified(copy, capsys) == (0, [])
    part.symlink_to(part.name)
    assert verified(copy, capsys) == (1, [f"{part.name}: is no file"])


def test_keys_that_are_no_text_and_come_twice(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "story_keys.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"\x80\n", b"\x80\n", *lines[2:]]))
    code, problems = verified(copy, capsys)
    assert code == 1
    assert any("\\x80 comes twice" in problem for problem in problems)
