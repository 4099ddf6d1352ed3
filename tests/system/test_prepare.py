"""`d2tv prepare emoji`, the whole way from the packages to a corpus."""

import json
from pathlib import Path

import numpy as np
import pytest

from launcher.cli import main
from shards.batch.reader import Reader
from shards.corpora.npm import EMOJI_IMAGES, fetch, read_members
from shards.files.caches import default_cache
from shards.format.index import open_corpus
from tests.support.prepare import run

#: The first characters have few drawings, so it is quick.
OPTIONS = ("--stories=45", "--stories-per-shard=20", "--pixels")


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepare") / "emoji"
    code, output, errors = run("emoji", *OPTIONS, "--out", out)
    assert code == 0, errors
    assert "35 train, 6 validation, 4 test stories" in output
    return out


def test_a_complete_corpus_is_left_alone(emoji: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in emoji.rglob("*")}
    code, output, _ = run("emoji", *OPTIONS, "--out", emoji)
    assert code == 0
    assert "complete" in output
    assert {path: path.stat().st_mtime_ns for path in emoji.rglob("*")} == before
    assert not emoji.with_name("emoji.partial").exists()


def test_every_direction_of_44_languages_has_an_example(emoji: Path) -> None:
    corpus = open_corpus(emoji)
    assert len(corpus.languages) == 44
    assert (corpus.direction_counts("train") > 0).sum() == 44 * 44


def test_articles_have_the_class_of_their_character(emoji: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = open_corpus(emoji)
    reader, keys = Reader(corpus), corpus.story_keys()
    labels: dict[str, list[str | None]] = {key: [] for key in keys}
    for row, story in enumerate(corpus.articles["story"]):
        labels[keys[story]].append(reader.article(row).label)
    assert set(labels["0031-20e3"]) == {"Symbols / keycap"}
    assert set(labels["0024"]) == {None}
    assert len(labels["0031-20e3"]) > 40
    capsys.readouterr()
    assert main(["verify", str(emoji), "--workers", "1"]) == 0
    assert main(["inspect", str(emoji)]) == 0
    without = sum(label is None for key in keys[:35] for label in labels[key])
    shares = "1 of the corpus' 1, most often Symbols / keycap 100.0%"
    assert f"labels of train: {shares}; {without:,} articles have none" in capsys.readouterr().out


def test_nothing_of_the_building_stays_in_the_corpus(emoji: Path) -> None:
    manifest = json.loads((emoji / "manifest.json").read_text())
    known = {*manifest["files"], "manifest.json", "tokenizer"}
    for shard in manifest["shards"]:
        known |= {shard["name"], shard["name"].replace(".tar", ".index.npz")}
    assert {path.relative_to(emoji).as_posix() for path in emoji.rglob("*")} == known
    assert [shard["name"] for shard in manifest["shards"]] == [
        "train-000000.tar",
        "train-000001.tar",
        "validation-000000.tar",
        "test-000000.tar",
    ]
    assert manifest["provenance"]["problems"] == {"counts": {}, "named": {}}


def test_the_renderings_are_kept_byte_for_byte(emoji: Path) -> None:
    corpus = open_corpus(emoji)
    row = int(np.flatnonzero(np.asarray(corpus.articles)["images"])[0])
    key = corpus.story_keys()[int(corpus.articles["story"][row])]
    packages = [fetch(package, default_cache()) for package in EMOJI_IMAGES.values()]

    def is_of_key(name: str) -> bool:
        return name.replace("-fe0f", "").endswith(f"/64/{key}.png")

    files = [data for package in packages for _, data in read_members(package, is_of_key)]
    assert len(files) > 1
    assert Reader(corpus).image_files(row) == tuple(files)
    code, _, errors = run("emoji", *OPTIONS[:-1], "--out", emoji)
    assert code == 2
    assert "prepared with other settings" in errors


def test_pixels_of_a_corpus_that_has_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "crosssum", "--data", str(tmp_path), "--out", str(tmp_path / "corpus"), "--pixels"]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "error: --pixels: the files of crosssum hold features and no images: leave it out\n"
    )
    assert not list(tmp_path.iterdir())
