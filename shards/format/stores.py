"""Open the storage of a corpus' shards: its directory, its URL, or a local cache of its URL."""

from pathlib import Path

from shards.errors import InputError
from shards.format.index import Corpus
from shards.storage.reads import LocalStorage, Storage
from shards.storage.remote import RemoteStorage
from shards.storage.shard_cache import CachedStorage


def open_storage(
    corpus: Corpus, *, max_open_files: int = 256, cache: Path | None = None, cache_bytes: int | None = None
) -> Storage:
    """Open the shards of `corpus`. `cache`: a directory of this host, for a corpus behind a URL alone.

    `InputError` for settings that do not belong together, for a cache that cannot hold the largest shard, and where
    the libraries for the URL are not installed.
    """
    if (cache is None) != (cache_bytes is None):
        raise InputError("loader.cache and loader.cache_bytes belong together: set both, or none")
    if corpus.url is None:
        if cache is not None:
            raise InputError(f"the corpus {corpus.location} is a directory, which is read in place: unset loader.cache")
        return LocalStorage(Path(corpus.location), max_open_files)
    remote = RemoteStorage(corpus.url)
    if cache is None or cache_bytes is None:
        return remote
    sizes = {shard["name"]: int(shard["bytes"]) for shard in corpus.manifest["shards"]}
    return CachedStorage(remote, cache, max_bytes=cache_bytes, corpus=corpus.content_hash, sizes=sizes)
