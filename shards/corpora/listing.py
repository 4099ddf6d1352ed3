"""The files of a directory that a person has: which they are, and a fingerprint to know them by."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """files: (path below `root` with forward slashes, size in bytes), sorted."""

    root: Path
    files: tuple[tuple[str, int], ...]

    def fingerprint(self) -> dict[str, Any]:
        """Number and bytes of the files, and a hash of their names and sizes. JSON-able, the same on every machine."""
        digest = hashlib.sha256()
        for name, size in self.files:
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        return {
            "files": len(self.files),
            "bytes": sum(size for _, size in self.files),
            "sha256_of_names_and_sizes": digest.hexdigest(),
        }


def list_files(root: Path, suffixes: Iterable[str]) -> Listing:
    """The files below `root` that end in one of `suffixes`. Links to directories are followed, each directory once.

    Raises: InputError when `root` is not a directory, or one of them has a name that is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a directory: name the one that holds the data with --data DIR")
    endings = tuple(suffixes)
    found: list[tuple[str, int]] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()  # so that of two links to one directory the same one is followed everywhere
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            path = Path(folder, name)
            if name.endswith(endings) and path.is_file():
                found.append((_utf8(path.relative_to(root).as_posix(), root), path.stat().st_size))
    return Listing(root=root, files=tuple(sorted(found)))


def _utf8(name: str, root: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name of {name!r} below {root} is not UTF-8: rename it") from error
    return name
