"""Download the index of a corpus behind a URL once a host: `<cache>/<content hash>/` holds all but the tars.

fsspec's file cache checks no hashes, has no bound in bytes and no lock between the ranks of a host; so this and
shard_cache.py are ours.
"""

import errno
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.caches import default_cache
from shards.files.lock import locked
from shards.files.trust import check_owned, own_directory
from shards.files.write import whole_file, write_atomically
from shards.storage.remote import PIECE, RemoteStorage, patiently


def default_index_cache() -> Path:
    """Return `index` where downloads are kept."""
    return default_cache() / "index"


def read_remote_manifest(remote: RemoteStorage) -> bytes:
    """Return the bytes of the manifest; `InputError` when they cannot be had."""
    try:
        return patiently(partial(remote.read, "manifest.json"))
    except FileNotFoundError as error:
        raise InputError(
            f"no corpus at {remote.shown('')} ({error.strerror}, of manifest.json): copy there the directory that "
            "`d2tv prepare` made, or set corpus.path="
        ) from error
    except OSError as error:
        raise _unreadable(remote, "manifest.json", error) from error


def fetch_index(remote: RemoteStorage, manifest: Mapping[str, Any], cache: Path) -> Path:
    """Download the index files of `manifest` that the cache lacks, and return their directory.

    Each file is checked against its SHA-256 when it comes. The processes of a host may call this at once: one
    downloads, the others wait. Raises `InputError` for what cannot be had or is not what the manifest says, and for a
    cache that cannot be written or may be another user's.
    """
    directory = cache / str(manifest["content_hash"])
    try:
        check_owned(directory)
        if _is_whole(directory, manifest):  # also where the cache was made by another and cannot be written
            return directory
        own_directory(directory)
        with locked(directory / ".lock"):
            for name, entry in manifest["files"].items():
                if not _has_size(directory / name, entry["bytes"]):
                    (directory / name).parent.mkdir(exist_ok=True)
                    _fetch(remote, name, entry, directory / name)
            text = json.dumps(dict(manifest), indent=1, ensure_ascii=False) + "\n"
            write_atomically(directory / "manifest.json", text.encode())
    except OSError as error:
        raise InputError(
            f"cannot use the index cache {directory} ({error.strerror or error}): free space there, or point "
            "D2TV_CACHE at another directory"
        ) from error
    return directory


def check_ends(remote: RemoteStorage, manifest: Mapping[str, Any]) -> None:
    """Read the last byte of the first and of the last shard, and one more: tells most wrong uploads and servers.

    All shards would be as many requests. `InputError` for a shard that is missing or of another size.
    """
    for entry in manifest["shards"][:1] + manifest["shards"][1:][-1:]:
        name, size = entry["name"], entry["bytes"]
        try:
            data = patiently(partial(remote.read, name, size - 1, size + 1))
        except OSError as error:
            raise _unreadable(remote, name, error) from error
        if len(data) != 1:
            raise InputError(
                f"{remote.shown(name)} is not of the {size} bytes that the manifest says: copy the corpus there again"
            )


def _is_whole(directory: Path, manifest: Mapping[str, Any]) -> bool:
    """Return True if all files are there; the manifest is written last."""
    return (directory / "manifest.json").is_file() and all(
        _has_size(directory / name, entry["bytes"]) for name, entry in manifest["files"].items()
    )


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _fetch(remote: RemoteStorage, name: str, entry: Mapping[str, Any], path: Path) -> None:
    """Download one file to `path`. Raises `OSError` for what is wrong here, `InputError` for what is wrong there."""
    digest, size = hashlib.sha256(), entry["bytes"]
    with whole_file(path) as file:
        for begin in range(0, size, PIECE):
            try:
                data = patiently(partial(remote.piece, name, begin, size))
            except OSError as error:
                raise _unreadable(remote, name, error) from error
            digest.update(data)
            file.write(data)
        if digest.hexdigest() != entry["sha256"]:
            raise InputError(
                f"{remote.shown(name)} is not what the manifest says (its SHA-256 differs): copy the corpus there again"
            )


def _unreadable(remote: RemoteStorage, name: str, error: OSError) -> InputError:
    hint = "copy the corpus there again" if error.errno == errno.ENOENT else "check the URL, the network and the server"
    return InputError(f"cannot read {remote.shown(name)}: {error.strerror}: {hint}")
