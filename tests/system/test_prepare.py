"""`d2tv prepare emoji`, the whole way from the packages to a corpus."""

import json
from pathlib import Path

import pytest

from shards.index import open_corpus
from tests.system.prepare import run

#: The first characters have few drawings, so it is quick.
OPTIONS = ("--stories=45", "--stories-per-shard=20")


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepare") / "emoji"
    code, output, errors = run("emoji", *OPTIONS, "--out", out)
    assert code == 0, errors
    assert "45/45" in output
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
