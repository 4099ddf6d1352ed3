"""An index whose hashes fit and whose tables do not: refused in one line on opening, and listed by `d2tv verify`."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.cli import main
from shards.batch.reader import Reader, ReaderConfig
from shards.batch.spans import UnreadableError
from shards.errors import InputError
from shards.files.checksum import crc32c
from shards.format.index import Corpus, open_corpus
from shards.format.manifest import content_hash
from shards.format.merge import finish_corpus
from shards.format.records import ARTICLE
from shards.text.tokenizer import open_tokenizer
from tests.support.tiny import make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("index") / "corpus", stories=24)


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.directory, tmp_path / "corpus"))


def reseal(directory: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Hashes and sizes in the manifest as the files are now, so that they tell nothing; then `change` it."""
    manifest = json.loads((directory / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (directory / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(manifest)
    manifest["content_hash"] = content_hash(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))


def refused(directory: Path) -> str:
    """The one line with which opening ends; `d2tv verify` finds something, too."""
    with pytest.raises(InputError) as caught:
        open_corpus(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert "prepare the corpus again" in message
    assert main(["verify", str(directory), "--workers", "1"]) in (1, 2)
    return message


def with_array(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        np.save(directory / name, change(np.load(directory / name)))

    return damage


def with_field(name: str, value: int) -> Callable[[Path], None]:
    """A value in the record of the first article that has images."""

    def change(table: Any) -> Any:
        table[name][np.flatnonzero(table["images"])[0]] = value
        return table

    return with_array("articles.npy", change)


def with_cell(place: tuple[int, ...], value: int) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        table[place] = value
        return table

    return change


TABLES: list[tuple[Callable[[Path], None], str]] = [
    (with_array("edges-train.npy", lambda edges: -1 - edges), r"edges-train\.npy, edge 0: joins rows -"),
    (with_array("edges-train.npy", lambda edges: edges + 10_000), "joins rows 10000 and 10000 of"),
    (with_array("edges-train.npy", with_cell((0, 0), -1)), "edge 0: joins rows -1 and"),
    (with_array("edges-train.npy", lambda edges: edges[::-1]), "but stands among"),
    (with_array("edges-train.npy", lambda edges: edges[:-1]), "edges in train, edges-train.npy has"),
    (with_array("edges-train.npy", lambda edges: edges * np.array([1, 0], np.int32)), "joins articles of two stories"),
    (with_array("edges-train.npy", lambda edges: edges.astype(np.int64)), "not of this format"),
    (with_array("edges-train.npy", lambda edges: edges.astype(np.float32)), "not of this format"),
    (with_array("edges-train.npy", lambda edges: edges.reshape(-1)), "not of this format"),
    (with_array("edges-train.npy", lambda edges: edges[:, :1]), "not of this format"),
    (with_array("directions-train.npy", lambda starts: starts[:-1]), "not of this format"),
    (with_array("directions-train.npy", lambda starts: starts[:, None]), "not of this format"),
    (with_array("directions-train.npy", lambda starts: starts.astype(np.float64)), "not of this format"),
    (with_array("directions-train.npy", lambda starts: starts[::-1]), "does not divide"),
    (with_array("directions-train.npy", with_cell((3,), -5)), "does not divide"),
    (with_array("directions-train.npy", lambda starts: starts + 1), "does not divide"),
    (with_array("articles.npy", lambda table: table.view(np.uint8)), "not of this format"),
    (with_array("articles.npy", lambda table: table[None]), "not of this format"),
    (with_array("articles.npy", lambda table: table[:-1]), "articles in .*, the index has"),
    (with_array("articles.npy", lambda table: table[::-1]), "a story's articles are neighbours"),
    (with_field("language", 4), "names language 4 of 4"),
    (with_field("language", 65_535), "names language 65535 of 4"),
    (with_field("shard", 2**32 - 1), "names shard 4294967295 of [345]"),
    (with_field("story", 2**32 - 1), "names story 4294967295 of 24"),
    (with_field("images", 60_000), "60000 images, of at most"),
    (with_field("images", 0), "0 images with [0-9]+ bytes of features"),
    (with_field("json_offset", 2**64 - 1), "its json member lies behind"),
    (with_field("json_length", 2**32 - 1), "its json member lies behind"),
    (with_field("roi_offset", 2**63), "its roi member lies behind"),
    (with_field("boxes_offset", 2**64 - 40), "its boxes member lies behind"),
    (with_field("text_offset", 2**64 - 1), "its text lies behind"),
    (with_field("url_length", 2**32 - 1), "its text lies behind"),
    (with_field("text_length", 0), "its text or summary is empty"),
    (with_field("summary_length", 0), "its text or summary is empty"),
    (lambda directory: (directory / "edges-train.npy").write_bytes(b"\x93NUMPY\x01\x00"), "is damaged"),  # type: ignore[list-item,return-value]
    (lambda directory: (directory / "articles.npy").write_bytes(b""), "is damaged"),  # type: ignore[list-item,return-value]
    (lambda directory: np.save(directory / "edges-test.npy", np.array([[{}]]), allow_pickle=True), "is damaged"),
]


@pytest.mark.parametrize(("damage", "message"), TABLES)
def test_tables_that_do_not_fit(
    copy: Path, damage: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy)
    reseal(copy)
    assert re.search(message, found := refused(copy)), found


MANIFESTS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m.update(languages=[]), "languages"),
    (lambda m: m.update(languages="english"), "languages"),
    (lambda m: m.update(languages=["english"] * 4), "a language twice"),
    (lambda m: m.update(languages=[1, 2, 3, 4]), "languages.0"),
    (lambda m: m.update(languages=[*m["languages"][:3], "x" * 300]), "languages.3"),
    (lambda m: m.update(regions=-36), "regions"),
    (lambda m: m.update(regions=36.0), "regions"),
    (lambda m: m.update(regions=10**400), "regions"),
    (lambda m: m.update(max_images=float("nan")), "max_images"),
    (lambda m: m.update(shards={}), "shards"),
    (lambda m: m.update(shards=[{}]), "shards.0"),
    (lambda m: m["shards"][0].update(bytes="1"), "shards.0.bytes"),
    (lambda m: m["shards"][0].update(stories=-1), "shards.0.stories"),
    (lambda m: m["shards"][0].update(name="train-" + "x" * 300 + ".tar"), "255 bytes"),
    (lambda m: m["shards"][0].update(name="../train-000000.tar"), "shards.0.name"),
    (lambda m: m["files"].update({"tokenizer/" + "é" * 200: m["files"]["text.bin"]}), "255 bytes"),
    (lambda m: m["files"].update({"/etc/hostname": m["files"]["text.bin"]}), "no file of a corpus"),
    (lambda m: m["files"].update({"text.bin": None}), "files.text.bin"),
    (lambda m: m["files"].pop("edges-test.npy"), "does not vouch for edges-test.npy"),
    (lambda m: m.update(splits=[]), "splits"),
    (lambda m: m["splits"].pop("test"), "lacks the split test"),
    (lambda m: m["splits"]["test"].update(edges=True), "splits.test.edges"),
    (lambda m: m.update(provenance="x"), "provenance"),
]


@pytest.mark.parametrize(("change", "message"), MANIFESTS)
def test_manifests_of_wrong_types(
    copy: Path, change: Callable[[dict[str, Any]], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reseal(copy, change)
    assert message in refused(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000])
def test_manifests_that_are_none(copy: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "manifest.json").write_bytes(content)
    refused(copy)


def test_deep_provenance_is_one_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    (copy / "manifest.json").write_text(
        (copy / "manifest.json").read_text().replace('"provenance": {', f'"provenance": {{"x": {deep}, ', 1)
    )
    assert "nested too deeply" in refused(copy)


@pytest.mark.parametrize("name", ["manifest.json", "articles.npy", "text.bin", "edges-train.npy", "train-000000.tar"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_other_things_under_the_names_of_files(
    copy: Path, name: str, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing waits for a FIFO's writer."""
    (copy / name).unlink()
    make(copy / name)
    with pytest.raises(InputError):
        open_corpus(copy)
    assert main(["verify", str(copy), "--workers", "1"]) in (1, 2)


def test_keys_that_are_none(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = (copy / "story_keys.txt").read_bytes()
    for damaged in (keys[:-1], keys.replace(b"\n", b"\x1b[31m\n", 1), b"\xff" + keys[1:], keys.replace(b"\n", b"", 1)):
        (copy / "story_keys.txt").write_bytes(damaged)
        reseal(copy)
        with pytest.raises(InputError, match="percent-encoded keys"):
            open_corpus(copy).story_keys()
        assert main(["verify", str(copy), "--workers", "1"]) == 1


PARTS: list[tuple[dict[str, Any], str]] = [
    ({"articles": np.zeros(3)}, "no table of this format"),
    ({"articles": np.zeros((2, 2), ARTICLE)}, "no table of this format"),
    ({"edges": np.full((4, 2), -1, np.int32)}, "names articles -1 to -1|name articles -1 to -1"),
    ({"edges": np.full((4, 2), 9**9, np.int32)}, "name articles"),
    ({"edges": np.zeros(4, np.int32)}, "no pairs of rows"),
    ({"keys": np.array(["a\x1b[31m"])}, "no list of percent-encoded keys"),
    ({"keys": np.array([1, 2])}, "no list of percent-encoded keys"),
    ({"keys": np.array([], np.str_)}, "0 keys"),
    ({"regions": np.array(-1)}, "regions is no number"),
    ({"tar_bytes": np.array([1, 2])}, "tar_bytes is no number"),
    ({"problems": np.array("[" * 100_000)}, "nested too deeply"),
    ({"problems": np.array("{}")}, "no counted problems"),
    ({"problems": np.array('{"counts": {"a": NaN}, "named": {"a": []}}')}, "no counted problems"),
    ({"problems": np.array('{"counts": {"a": 1}, "named": {"a": [1]}}')}, "no counted problems"),
    ({"articles": np.array([{}], object)}, "is damaged"),
    ({"keys": None}, "keys"),
]


@pytest.mark.parametrize(("change", "message"), PARTS)
def test_parts_that_do_not_fit_themselves(copy: Path, change: dict[str, Any], message: str) -> None:
    part = copy / "train-000000.index.npz"
    with np.load(part) as saved:
        arrays = dict(saved) | change
    np.savez(part, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(InputError, match=message) as caught:
        finish_corpus(copy, name="tiny", languages=("english", "french", "hindi", "urdu"), provenance={})
    assert str(caught.value).startswith(f"{part} is damaged (")
    assert "\n" not in str(caught.value)


def test_zip_bombs_are_not_unpacked(copy: Path) -> None:
    part = copy / "train-000000.index.npz"
    np.savez_compressed(part, articles=np.zeros(50_000_000, np.uint8))
    with pytest.raises(InputError, match="more than its own size"):
        finish_corpus(copy, name="tiny", languages=("english", "french", "hindi", "urdu"), provenance={})


@pytest.mark.parametrize("name", ["spiece.model", "d2tv_tokenizer.json"])
def test_damage_of_the_same_size_to_a_tokenizer(copy: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "tokenizer" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{re.escape(str(path))} is not what was written"):
        _ = open_corpus(copy).tokenizer
    assert main(["verify", str(copy), "--workers", "1"]) == 1
    assert f"tokenizer/{name}: is not what was written" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\xff" * 5000])
def test_a_tokenizer_that_is_none(copy: Path, data: bytes) -> None:
    (copy / "tokenizer" / "spiece.model").write_bytes(data)
    with pytest.raises(InputError, match="no SentencePiece model"):
        open_tokenizer(copy / "tokenizer")


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("roi", np.nan, "not all finite"),
        ("roi", np.inf, "not all finite"),
        ("roi", -np.inf, "not all finite"),
        ("boxes", np.nan, r"not all in \[0, 1\]"),
        ("boxes", 1e30, r"not all in \[0, 1\]"),
        ("boxes", -0.5, r"not all in \[0, 1\]"),
    ],
)
def test_features_that_are_no_numbers_are_unreadable(copy: Path, kind: str, value: float, problem: str) -> None:
    """Though their checksum fits: a placeholder stands for them, and they are counted and named."""
    table = np.load(copy / "articles.npy")
    row = int(np.flatnonzero(table["images"] > 0)[0])
    record = table[row]
    tar = copy / json.loads((copy / "manifest.json").read_text())["shards"][record["shard"]]["name"]
    data = bytearray(tar.read_bytes())
    begin, length = int(record[f"{kind}_offset"]), int(record[f"{kind}_length"])
    wrong = np.array([value], np.float16 if kind == "roi" else np.float32).tobytes()
    data[begin + 128 : begin + 128 + len(wrong)] = wrong
    tar.write_bytes(data)
    table[f"{kind}_crc"][table[f"{kind}_offset"] == begin] = crc32c(bytes(data[begin : begin + length]))
    np.save(copy / "articles.npy", table)
    reseal(copy)
    corpus = open_corpus(copy)
    reader = Reader(corpus, ReaderConfig(io_threads=0))
    roi, boxes = np.zeros((1, 4, 36, 32), np.float16), np.zeros((1, 4, 36, 4), np.float32)
    [outcome] = reader.images([row], roi, boxes).finish()
    reader.close()
    assert isinstance(outcome, UnreadableError)
    assert re.search(problem, str(outcome))
    assert main(["verify", str(copy), "--workers", "1"]) == 1
