"""A corpus in an S3 bucket, through s3fs and a real server of the protocol (moto)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.stores import open_storage
from shards.storage.remote import RemoteStorage
from tests.support.http_server import images_of

moto_server = pytest.importorskip("moto.server", reason="no S3 server to test with: pip install 'moto[server]' s3fs")
boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def bucket(tiny_corpus: Corpus) -> Iterator[str]:
    """The tiny corpus under a prefix of a bucket; the environment leads there, as it would for a private store."""
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="corpora")
        for path in tiny_corpus.directory.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "corpora", f"some/tiny/{path.relative_to(tiny_corpus.directory)}")
        yield "s3://corpora/some/tiny"
    server.stop()


@pytest.mark.parametrize("cached", [False, True])
def test_every_image_read_from_a_bucket_is_the_one_on_disk(
    bucket: str, tiny_corpus: Corpus, tmp_path: Path, cached: bool
) -> None:
    corpus = open_corpus(bucket, index_cache=tmp_path / "index")
    assert corpus.content_hash == tiny_corpus.content_hash
    settings = {"cache": tmp_path / "cache", "cache_bytes": 10**9} if cached else {}
    assert images_of(corpus, open_storage(corpus, **settings), at_once=64) == images_of(tiny_corpus)


def test_what_is_not_in_the_bucket_is_an_error_that_names_it(bucket: str, tiny_corpus: Corpus, tmp_path: Path) -> None:
    for url in (f"{bucket}/nothing", "s3://no-such-bucket/tiny"):
        with pytest.raises(InputError, match=f"no corpus at {url}") as caught:
            open_corpus(url, index_cache=tmp_path)
        assert "\n" not in str(caught.value)
    storage, out = RemoteStorage(bucket), [memoryview(bytearray(100))]
    size = (tiny_corpus.directory / tiny_corpus.shards[0]).stat().st_size
    with pytest.raises(FileNotFoundError, match="404"):
        storage.readv("train-999999.tar", out, 0)
    with pytest.raises(OSError, match="50 bytes came where 100"):
        storage.readv(tiny_corpus.shards[0], out, size - 50)
    with pytest.raises(OSError, match="0 bytes came where 100"):
        storage.readv(tiny_corpus.shards[0], out, size + 50)


def test_a_store_that_is_not_there_is_told_without_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with pytest.raises(InputError, match=r"s3://corpora/tiny/manifest\.json: no connection") as caught:
        open_corpus("s3://corpora/tiny", index_cache=tmp_path)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
