"""The local cache of a remote corpus' shards: downloaded once a host, bounded in bytes, whole or not there."""

import fcntl
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.stores import open_storage
from tests.support.http_server import FileServer, images_of, serving
from tests.support.users import STRANGER, needs_root
from tests.support.waiting import HANGING, until


@pytest.fixture
def server(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with serving(tiny_corpus.directory) as server:
        yield server


@pytest.fixture
def corpus(server: FileServer, tmp_path: Path) -> Corpus:
    corpus = open_corpus(server.url, index_cache=tmp_path / "index")
    server.requests.clear()
    return corpus


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "shards"


@pytest.fixture(scope="module")
def local(tiny_corpus: Corpus) -> list[bytes | str]:
    return images_of(tiny_corpus)


def sizes_of(corpus: Corpus) -> list[int]:
    return [shard["bytes"] for shard in corpus.manifest["shards"]]


def held(cache: Path) -> dict[str, int]:
    """Bytes of what the cache holds and of what it downloads, by name."""
    found = {}
    for path in cache.glob("*/*"):
        try:
            if path.suffix != ".lock":
                found[path.name] = path.stat().st_size
        except FileNotFoundError:
            pass
    return found


def test_a_second_pass_makes_no_request(
    corpus: Corpus, server: FileServer, local: list[bytes | str], cache: Path
) -> None:
    total = sum(sizes_of(corpus))
    storage = open_storage(corpus, cache=cache, cache_bytes=total)
    assert images_of(corpus, storage) == local
    assert sorted(server.names()) == sorted(corpus.shards)  # all threads together asked once for each
    server.requests.clear()
    again = open_storage(corpus, cache=cache, cache_bytes=total)
    assert images_of(corpus, again) == local
    assert server.requests == []
    assert sum(held(cache).values()) == total


@pytest.mark.parametrize("room", [1.0, 2.5])
def test_the_bound_holds_while_threads_read_at_random(
    corpus: Corpus, local: list[bytes | str], cache: Path, room: float
) -> None:
    """Room for one shard, and for two or three: most reads meet a shard that another thread just evicted."""
    bound = int(max(sizes_of(corpus)) * room)
    foreign = cache / "mine" / "train-000000.tar"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"not the cache's")
    highest, done = 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.002):
            now = held(cache)
            highest = max(highest, sum(now.values()) - now["train-000000.tar"])

    watcher = threading.Thread(target=watch)
    watcher.start()

    def read(seed: int) -> bool:
        rows = np.random.default_rng(seed).permutation(len(local))[:80].tolist()
        storage = open_storage(corpus, cache=cache, cache_bytes=bound)
        return images_of(corpus, storage, rows=rows, at_once=8) == [local[row] for row in rows]

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(read, range(3)))
    done.set()
    watcher.join()
    assert max(sizes_of(corpus)) <= highest <= bound
    assert foreign.read_bytes() == b"not the cache's"
    assert not any(name.endswith(".partial") for name in held(cache))


def test_the_shard_that_was_read_longest_ago_goes_first(corpus: Corpus, server: FileServer, cache: Path) -> None:
    first, second, third = np.argsort(sizes_of(corpus))[::-1][:3].tolist()
    bound = sum(sizes_of(corpus)[shard] for shard in (first, second, third)) - 1
    storage = open_storage(corpus, cache=cache, cache_bytes=bound)

    def read(shard: int) -> None:
        time.sleep(0.02)  # more than the file system's clock ticks
        storage.readv(corpus.shards[shard], [memoryview(bytearray(10))], 0)

    for shard in (first, second, first, third, first):
        read(shard)
    assert set(held(cache)) == {f"{corpus.shards[shard]}.shard" for shard in (first, third)}
    assert server.names() == [corpus.shards[shard] for shard in (first, second, third)]


READ_ALL = """
import hashlib, random, sys
from pathlib import Path
from shards.format.index import open_corpus
from shards.format.stores import open_storage
from tests.support.http_server import images_of
url, index, cache, limit, seed = sys.argv[1:]
corpus = open_corpus(url, index_cache=Path(index))
rows = list(range(len(corpus.articles)))
random.Random(seed).shuffle(rows)
found = images_of(corpus, open_storage(corpus, cache=Path(cache), cache_bytes=int(limit)), rows=rows)
print(hashlib.sha256(b"".join(data for _, data in sorted(zip(rows, found)))).hexdigest())
"""


def test_two_processes_share_the_cache_and_download_nothing_twice(
    corpus: Corpus, server: FileServer, local: list[bytes | str], cache: Path, tmp_path: Path
) -> None:
    for name in corpus.shards:
        server.always[name] = "stall 0.1"  # time for both to want the same one
    command = [sys.executable, "-c", READ_ALL, server.url, str(tmp_path / "index"), str(cache)]
    running = [
        subprocess.Popen([*command, str(10**9), str(seed)], stdout=subprocess.PIPE, text=True) for seed in range(2)
    ]
    expected = hashlib.sha256(b"".join(data for data in local if isinstance(data, bytes))).hexdigest()
    assert [process.communicate()[0].strip() for process in running] == [expected] * 2
    # Both looked at the first and last shard when they opened the corpus.
    downloads = [name for name, part in server.requests if name in corpus.shards and part.startswith("bytes=0-")]
    assert sorted(downloads) == sorted(corpus.shards)


def test_a_copy_that_was_damaged_is_downloaded_again(
    corpus: Corpus, server: FileServer, local: list[bytes | str], cache: Path
) -> None:
    settings = {"cache": cache, "cache_bytes": 10**9}
    images_of(corpus, open_storage(corpus, **settings))
    server.requests.clear()
    harmed = corpus.shards[1]
    copy = cache / corpus.content_hash / f"{harmed}.shard"
    copy.write_bytes(bytes(copy.stat().st_size))
    cut = copy.with_name(f"{corpus.shards[2]}.shard")
    os.truncate(cut, 1000)
    copy.with_name(f"{corpus.shards[0]}.shard").unlink()
    assert images_of(corpus, open_storage(corpus, **settings)) == local
    assert sorted(server.names()) == sorted(corpus.shards[:3])
    for name in corpus.shards[:3]:
        assert copy.with_name(f"{name}.shard").read_bytes() == (server.directory / name).read_bytes()


def test_what_is_wrong_at_the_source_is_not_downloaded_again_at_every_read(
    corpus: Corpus, server: FileServer, cache: Path
) -> None:
    storage = open_storage(corpus, cache=cache, cache_bytes=10**9)
    for _ in range(5):
        storage.readv(corpus.shards[0], [memoryview(bytearray(10))], 0)
        storage.forget(corpus.shards[0])
    assert server.names() == [corpus.shards[0]] * 2


PIECE = 4096


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of several pieces, and attempts that follow each other at once."""
    monkeypatch.setattr("shards.storage.remote.PIECE", PIECE)
    monkeypatch.setattr("shards.storage.remote._WAITS", (0.001, 0.001, 0.001))


def pieces_of(server: FileServer, name: str) -> list[int]:
    """The number of the piece that each request for `name` was for."""
    return [int(part.removeprefix("bytes=").split("-")[0]) // PIECE for other, part in server.requests if other == name]


@pytest.mark.parametrize("fault", ["short", "reset", "503"])
def test_a_piece_that_fails_is_asked_for_again_and_no_other(
    corpus: Corpus, server: FileServer, cache: Path, small_pieces: None, fault: str
) -> None:
    storage = open_storage(corpus, cache=cache, cache_bytes=10**9)
    name, out = corpus.shards[0], bytearray(5000)
    server.faults[name] = ["", fault, fault, fault, "", fault]
    assert storage.readv(name, [memoryview(out)], 100) == len(out)
    pieces = -(-sizes_of(corpus)[0] // PIECE)
    assert pieces > 3
    assert pieces_of(server, name) == [0, 1, 1, 1, 1, 2, 2, *range(3, pieces)]
    copy = cache / corpus.content_hash / f"{name}.shard"
    assert copy.read_bytes() == (server.directory / name).read_bytes()


@pytest.mark.parametrize("fault", ["short", "reset", "503", "404"])
def test_a_download_that_broke_off_goes_on_where_it_did(
    corpus: Corpus, server: FileServer, cache: Path, small_pieces: None, fault: str
) -> None:
    """Also that of another process: all it leaves are files."""
    name, size = corpus.shards[0], sizes_of(corpus)[0]
    server.faults[name] = ["", ""] + [fault] * 4
    with pytest.raises(OSError, match=name):
        open_storage(corpus, cache=cache, cache_bytes=10**9).readv(name, [memoryview(bytearray(10))], 0)
    assert held(cache) == {f"{name}.partial": size}
    server.faults[name].clear()
    server.requests.clear()
    assert open_storage(corpus, cache=cache, cache_bytes=10**9).readv(name, [memoryview(bytearray(10))], 0) == 10
    assert pieces_of(server, name) == list(range(2, -(-size // PIECE)))
    assert held(cache) == {f"{name}.shard": size}
    copy = cache / corpus.content_hash / f"{name}.shard"
    assert copy.read_bytes() == (server.directory / name).read_bytes()


def test_a_broken_download_that_made_room_begins_anew(
    corpus: Corpus, server: FileServer, cache: Path, small_pieces: None
) -> None:
    """What is written of its progress must not outlive it."""
    first, second = np.argsort(sizes_of(corpus))[::-1][:2].tolist()
    name, other = corpus.shards[first], corpus.shards[second]
    storage = open_storage(corpus, cache=cache, cache_bytes=sizes_of(corpus)[first])
    server.faults[name] = ["", "404", "404"]
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            storage.readv(name, [memoryview(bytearray(10))], 0)
    storage.readv(other, [memoryview(bytearray(10))], 0)
    assert set(held(cache)) == {f"{other}.shard"}
    storage.readv(name, [memoryview(bytearray(10))], 0)
    copy = cache / corpus.content_hash / f"{name}.shard"
    assert copy.read_bytes() == (server.directory / name).read_bytes()
    assert set(held(cache)) == {copy.name}


@pytest.mark.parametrize("fault", ["short", "reset", "503", "404"])
def test_a_download_that_fails_is_an_error_and_leaves_nothing(
    corpus: Corpus, server: FileServer, cache: Path, small_pieces: None, fault: str
) -> None:
    storage = open_storage(corpus, cache=cache, cache_bytes=10**9)
    name, out = corpus.shards[0], bytearray(5000)
    server.always[name] = fault
    with pytest.raises(OSError, match=name):
        storage.readv(name, [memoryview(out)], 100)
    assert held(cache) == {}
    del server.always[name]
    assert storage.readv(name, [memoryview(out)], 100) == len(out)
    assert out == (server.directory / name).read_bytes()[100:5100]


def test_a_download_that_a_kill_cut_short_is_cleared_away(corpus: Corpus, cache: Path) -> None:
    """Its bytes would count for ever. One that is under way, whose lock is held, stays and is waited for."""
    largest = int(np.argmax(sizes_of(corpus)))
    other = corpus.shards[0 if largest else 1]
    storage = open_storage(corpus, cache=cache, cache_bytes=max(sizes_of(corpus)))
    directory = cache / corpus.content_hash
    for name in (other, corpus.shards[largest]):
        (directory / f"{name}.partial").write_bytes(bytes(5000))
    with open(directory / f"{other}.lock", "w") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reading = pool.submit(storage.readv, corpus.shards[largest], [memoryview(bytearray(10))], 0)
        until(lambda: held(cache) == {f"{other}.partial": 5000})
        waited = not reading.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert reading.result(HANGING) == 10
    assert waited
    assert set(held(cache)) == {f"{corpus.shards[largest]}.shard"}


def test_a_disk_that_takes_no_more_ends_the_run_with_the_directorys_name(corpus: Corpus, cache: Path) -> None:
    storage = open_storage(corpus, cache=cache, cache_bytes=10**9)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # a full disk fails the same write with another number
    try:
        with pytest.raises(InputError, match="cannot write the shard cache") as caught:
            storage.readv(corpus.shards[0], [memoryview(bytearray(10))], 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(cache) in str(caught.value)
    assert held(cache) == {}
    assert storage.readv(corpus.shards[0], [memoryview(bytearray(10))], 0) == 10


def test_a_cache_that_cannot_be_a_directory_is_refused_at_the_start(corpus: Corpus, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(InputError, match=r"cannot write the shard cache .*shards/here .*loader\.cache"):
        open_storage(corpus, cache=cache / "here", cache_bytes=10**9)


def test_a_cache_that_is_cleaned_away_under_a_run_is_filled_again(
    corpus: Corpus, local: list[bytes | str], cache: Path
) -> None:
    storage = open_storage(corpus, cache=cache, cache_bytes=10**9)
    storage.readv(corpus.shards[0], [memoryview(bytearray(10))], 0)
    shutil.rmtree(cache)
    assert images_of(corpus, storage) == local


def test_room_is_made_only_of_what_a_cache_has_written(corpus: Corpus, cache: Path) -> None:
    """The directory may be one in which other things lie, of whatever names."""
    name = corpus.shards[0]
    theirs = [
        cache / "photos" / "film.partial",
        cache / "photos" / "film.shard",
        cache / corpus.content_hash / "film.shard",
        cache / ("0" * 64) / "film.partial",
    ]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (0, 0))
    (cache / ("1" * 64)).symlink_to(cache / "photos")
    (cache / "photos" / "film.lock").touch()
    (cache.parent / "precious").write_bytes(bytes(100))
    (cache / corpus.content_hash / "linked.shard").symlink_to(cache.parent / "precious")
    (cache / corpus.content_hash / "linked.lock").touch()
    storage = open_storage(corpus, cache=cache, cache_bytes=max(sizes_of(corpus)))
    for shard in corpus.shards:
        storage.readv(shard, [memoryview(bytearray(10))], 0)
    assert all(path.stat().st_size == 100 for path in theirs)
    assert (cache / corpus.content_hash / "linked.shard").is_symlink()
    assert not (cache / corpus.content_hash / f"{name}.shard").exists()  # that was ours


@needs_root
@pytest.mark.parametrize("planted", ["", "{hash}", ".lock"])
def test_a_cache_that_another_user_planted_is_refused(corpus: Corpus, tmp_path: Path, planted: str) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    cache = shared / "cache" if planted == "" else shared  # or a volume that everybody may write, as a pod's
    path = cache / planted.format(hash=corpus.content_hash)
    path.touch() if planted == ".lock" else path.mkdir()
    os.chown(path, STRANGER, STRANGER)
    shared.chmod(0o1777)
    with pytest.raises(InputError, match=r"belongs to another user.*loader\.cache") as caught:
        open_storage(corpus, cache=cache, cache_bytes=10**9)
    assert "\n" not in str(caught.value)


def test_a_volume_that_everybody_may_write_holds_a_cache_of_our_own(corpus: Corpus, cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    storage = open_storage(corpus, cache=cache, cache_bytes=10**9)
    assert storage.readv(corpus.shards[0], [memoryview(bytearray(10))], 0) == 10
    assert (cache / corpus.content_hash).stat().st_mode & 0o777 == 0o700
