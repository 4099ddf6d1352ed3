"""A corpus behind http:// is the corpus on disk, through a real server and what goes wrong with one."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.batch.loader import Loader
from shards.batch.reader import Reader
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.manifest import content_hash
from shards.format.stores import open_storage
from shards.locations import is_url, shown
from shards.storage.reads import LocalStorage
from shards.storage.remote import RemoteStorage
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Sampler
from shards.text.tokenizer import open_tokenizer
from tests.support.http_server import FileServer, images_of, serving
from tests.support.tiny import tiny_collator
from tests.support.users import STRANGER, needs_root


@pytest.fixture
def server(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with serving(tiny_corpus.directory) as server:
        yield server


@pytest.fixture
def remote_corpus(server: FileServer, tmp_path: Path) -> Corpus:
    corpus = open_corpus(server.url, index_cache=tmp_path / "index")
    server.requests.clear()
    return corpus


@pytest.fixture(scope="module")
def local(tiny_corpus: Corpus) -> list[bytes | str]:
    return images_of(tiny_corpus)


@pytest.fixture
def damaged(server: FileServer, tiny_corpus: Corpus, tmp_path: Path) -> Path:
    """A copy of what the server serves, to be changed."""
    shutil.copytree(tiny_corpus.directory, tmp_path / "served")
    server.directory = tmp_path / "served"
    return server.directory


@pytest.mark.parametrize("threads", [0, 4])
def test_every_image_read_through_http_is_the_one_on_disk(
    remote_corpus: Corpus, local: list[bytes | str], threads: int
) -> None:
    assert images_of(remote_corpus, open_storage(remote_corpus), threads=threads) == local
    assert sum(map(len, local)) > 100_000


@pytest.mark.parametrize(
    "faults", [["503", "503"], ["reset"], ["cut", "short"], ["whole", "404", "500"], ["stall 1", "reset"]]
)
def test_faults_that_pass_change_nothing(
    remote_corpus: Corpus, server: FileServer, local: list[bytes | str], faults: list[str]
) -> None:
    for name in remote_corpus.shards[: 2 if "stall 1" in faults else None]:
        server.faults[name] = list(faults)
    assert images_of(remote_corpus, RemoteStorage(server.url, read_seconds=0.5)) == local
    assert not any(server.faults.values())  # they all took place


@pytest.mark.parametrize("fault", ["404", "503", "whole", "short", "cut", "reset"])
def test_a_shard_that_stays_unreadable_costs_its_own_rows_alone(
    remote_corpus: Corpus, server: FileServer, local: list[bytes | str], fault: str
) -> None:
    broken = 1
    server.always[remote_corpus.shards[broken]] = fault
    found = images_of(remote_corpus, open_storage(remote_corpus), retries=1)
    lost = (remote_corpus.articles["shard"] == broken) & (remote_corpus.articles["images"] > 0)
    assert lost.any()
    for row, (got, wanted) in enumerate(zip(found, local, strict=True)):
        if lost[row]:
            assert isinstance(got, str)
            assert remote_corpus.shards[broken] in got
            assert "\n" not in got
            assert {"404": "no such file", "503": "503", "whole": "range", "short": "bytes"}.get(fault, "") in got
        else:
            assert got == wanted


def test_a_server_that_stalls_on_one_shard_loses_and_reorders_nothing(
    tiny_corpus: Corpus, remote_corpus: Corpus, server: FileServer
) -> None:
    def batches(corpus: Corpus, reader: Reader, threads: int) -> list[dict[str, torch.Tensor]]:
        loader = Loader(
            Sampler(corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=4),
            tiny_collator(corpus, reader),
            Partition(groups_per_step=2, groups_per_micro_batch=1, rank=0, world_size=1),
            first_step=0,
            threads=threads,
            prefetch=4,
        )
        taken = list(islice(loader, 12))
        loader.close()
        names = ("source_ids_BM", "target_ids_BM", "summary_ids_BN", "roi_BIRV", "boxes_BIR4", "image_mask_BI")
        return [{name: getattr(batch, name) for name in (*names, "weight_B", "story_B", "slot_B")} for batch in taken]

    expected = batches(tiny_corpus, Reader(tiny_corpus), threads=0)
    for number, name in enumerate(remote_corpus.shards):
        if number != 2:
            server.always[name] = "stall 0.002"
    server.always[remote_corpus.shards[2]] = "stall 0.15"
    found = batches(remote_corpus, Reader(remote_corpus, None, open_storage(remote_corpus)), threads=3)
    for got, wanted in zip(found, expected, strict=True):
        for name in wanted:
            assert torch.equal(got[name], wanted[name]), name
    assert remote_corpus.shards[2] in server.names()
    assert all(bool((batch["weight_B"] == 1).all()) for batch in found)


def test_the_index_is_downloaded_once_for_all_ranks_of_a_host(
    tiny_corpus: Corpus, server: FileServer, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        corpora = list(pool.map(lambda _: open_corpus(server.url, index_cache=tmp_path / "index"), range(4)))
    for name in tiny_corpus.manifest["files"]:
        assert server.names().count(name) == 1
    for corpus in corpora:
        assert corpus.location == server.url
        assert corpus.content_hash == tiny_corpus.content_hash
        np.testing.assert_array_equal(corpus.articles, tiny_corpus.articles)
        np.testing.assert_array_equal(corpus.text, tiny_corpus.text)
        assert corpus.story_keys() == tiny_corpus.story_keys()
    assert open_tokenizer(corpora[0].directory / "tokenizer").vocab_size > 256
    server.requests.clear()
    open_corpus(server.url, index_cache=tmp_path / "index")
    assert server.names() == ["manifest.json", tiny_corpus.shards[0], tiny_corpus.shards[-1]]


def test_a_start_outlasts_a_server_that_is_overloaded_for_a_moment(
    server: FileServer, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    for name in ("manifest.json", "text.bin", tiny_corpus.shards[0]):
        server.faults[name] = ["503"]
    assert open_corpus(server.url, index_cache=tmp_path).content_hash == tiny_corpus.content_hash


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rename_in_manifest(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["files"]["../../outside"] = manifest["files"].pop("text.bin")
    manifest["content_hash"] = content_hash(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        ("manifest.json", Path.unlink, "no corpus at"),
        ("manifest.json", lambda path: path.write_text("<html>hello</html>"), "not JSON"),
        ("manifest.json", lambda path: path.write_text('{"format_version": 99}'), "format version 99"),
        ("manifest.json", lambda path: path.write_text("[]"), "format version"),
        ("manifest.json", rename_in_manifest, "outside"),
        ("articles.npy", Path.unlink, "no such file"),
        ("articles.npy", flip, "SHA-256"),
        ("train-000000.tar", Path.unlink, "no such file"),
        ("train-000000.tar", shorten, "bytes"),
        ("test-000000.tar", lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes"),
    ],
)
def test_what_is_wrong_at_the_server_is_one_line_that_names_it(
    damaged: Path, server: FileServer, tmp_path: Path, name: str, harm: Callable[[Path], object], says: str
) -> None:
    harm(damaged / name)
    with pytest.raises(InputError, match=says) as caught:
        open_corpus(server.url, index_cache=tmp_path / "index")
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "outside").exists()


def test_a_server_without_ranges_is_refused_at_the_start(
    server: FileServer, tiny_corpus: Corpus, tmp_path: Path
) -> None:
    server.always[tiny_corpus.shards[0]] = "whole"
    with pytest.raises(InputError, match="range requests"):
        open_corpus(server.url, index_cache=tmp_path)


def test_a_host_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}/corpus?key=secret"
        with pytest.raises(InputError, match=r"http://127\.0\.0\.1:\d+/corpus/manifest\.json: no connection") as caught:
            open_corpus(url, index_cache=tmp_path)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_credentials_reach_the_server_and_no_message(
    server: FileServer, tiny_corpus: Corpus, tmp_path: Path, local: list[bytes | str]
) -> None:
    url = server.url.replace("http://", "http://me:passw0rd@") + "?signature=s3cret"
    corpus = open_corpus(url, index_cache=tmp_path)
    assert images_of(corpus, open_storage(corpus)) == local
    assert server.authorizations == {"Basic bWU6cGFzc3cwcmQ="}
    assert server.queries == {"signature=s3cret"}
    server.always[tiny_corpus.shards[0]] = "503"
    [told] = images_of(corpus, open_storage(corpus), rows=np.flatnonzero(corpus.articles["images"])[:1], retries=1)
    for text in (told, repr(corpus), corpus.location):
        assert not re.search("passw0rd|s3cret", str(text))
    for fault in ("401", "403", "404", "503", "reset", "whole"):
        server.always[tiny_corpus.shards[0]] = fault
        with pytest.raises(OSError, match=tiny_corpus.shards[0]) as caught:
            RemoteStorage(url).readv(tiny_corpus.shards[0], [memoryview(bytearray(9))], 5)
        for text in (str(caught.value), caught.value.strerror, repr(caught.value)):
            assert not re.search("passw0rd|s3cret", text)


@pytest.mark.parametrize(
    ("location", "printed"),
    [
        ("https://me:pw@host:80/a/b?sig=x#y", "https://host:80/a/b"),
        ("s3://key:pw@bucket/a", "s3://bucket/a"),
        ("http://host?sig=a/b@c", "http://host"),
        ("data/emoji?x", "data/emoji?x"),
    ],
)
def test_what_is_printed_of_a_location_holds_no_credentials(location: str, printed: str) -> None:
    assert shown(location) == printed
    assert is_url(location) == ("://" in location)


@pytest.mark.parametrize(
    "url", ["ftp://host/a", "http://", "http://host:port/a", "s3://", "file:///a", "http://[::1/a"]
)
def test_a_url_that_cannot_be_read_is_refused_with_those_that_can(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"use http://HOST/PATH.*s3://BUCKET/PATH, or a directory"):
        open_corpus(url, index_cache=tmp_path)


@pytest.mark.parametrize(("missing", "url"), [("aiohttp", "http://host/a"), ("s3fs", "s3://bucket/a")])
def test_without_the_extra_the_error_says_what_to_install(missing: str, url: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from shards.storage.remote import RemoteStorage\n"
        f"try: RemoteStorage({url!r})\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(url)
    assert done.stdout.endswith("pip install 'd2tv[remote]'\n")
    assert done.stdout.count("\n") == 1


def test_settings_of_a_cache_that_do_not_belong_together_are_refused(
    tiny_corpus: Corpus, remote_corpus: Corpus, tmp_path: Path
) -> None:
    assert isinstance(open_storage(tiny_corpus), LocalStorage)
    with pytest.raises(InputError, match="set both, or none"):
        open_storage(remote_corpus, cache=tmp_path)
    with pytest.raises(InputError, match=r"unset loader\.cache"):
        open_storage(tiny_corpus, cache=tmp_path, cache_bytes=10**9)
    with pytest.raises(InputError, match="largest shard"):
        open_storage(remote_corpus, cache=tmp_path, cache_bytes=1000)


@needs_root
def test_an_index_that_another_user_planted_is_refused(server: FileServer, tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Also a whole one, which is not downloaded again."""
    shared = tmp_path / "tmp"
    open_corpus(server.url, index_cache=shared)
    shared.chmod(0o1777)
    os.chown(shared / tiny_corpus.content_hash, STRANGER, STRANGER)
    with pytest.raises(InputError, match=r"belongs to another user.*D2TV_CACHE"):
        open_corpus(server.url, index_cache=shared)
