"""List the files of a data directory, with a fingerprint."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from shards.errors import InputError
from shards.problems import Problems

#: One of these is in every corpus, or in the directory that one is built in.
_OWN = frozenset({"prepare.lock", "story_keys.txt"})

#: What lies beside data and holds none of it: notes, programs, pictures, and what systems leave behind.
_OTHER_NAMES = re.compile(
    r"(readme|licen[cs]e|copying|citation|changelog)(\..*)?|\._.*|\.ds_store|thumbs\.db|desktop\.ini|\.git\w+"
    r"|.*\.(md|rst|html?|pdf|py|sh|ipynb|jpe?g|png|gif|webp|bmp|svg|log|md5|sha1|sha256|lock)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """files: (path below `root` with forward slashes, size in bytes), sorted.  problems: what is not among them.

    beside: hash of the names of the files that those may refer to; None where there are none.
    """

    root: Path
    files: tuple[tuple[str, int], ...]
    problems: Problems = field(default_factory=Problems)
    beside: str | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Return number and bytes of the files, and a hash of their names and sizes: the same on every machine."""
        digest = hashlib.sha256()
        for name, size in self.files:
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        return {
            "files": len(self.files),
            "bytes": sum(size for _, size in self.files),
            "sha256_of_names_and_sizes": digest.hexdigest(),
            **({"sha256_of_names_beside": self.beside} if self.beside else {}),
        }

    def others(self) -> str:
        """Return what there is besides `files`, to be put behind an error that misses something; "" for nothing."""
        found = self.problems.summary(information=True)
        return f"; what is there: {found}" if found else ""


def list_files(
    root: Path, suffixes: Iterable[str], kind_of_other: Callable[[str], str | None], beside: Sequence[str] = ()
) -> Listing:
    """List the files below `root` whose names end in one of `suffixes`, in small or capital letters.

    Links to directories are followed, each directory once. Corpora that were prepared below `root` are no data, those
    that are being prepared included. Of every other file `kind_of_other` says, by its path
    below `root`, which kind of problem it is, or None. Counted besides: "unreadable file", for what has such a name
    and is no file (a link to nothing, a FIFO), and for directories that cannot be read.

    beside: endings, in small letters, of files that those refer to, which are no problem. There may be millions on a
    slow disk, so that only their names are looked at.

    Raises: InputError when `root` is not a directory, or one of the files has a name that is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a directory: name the one that holds the data with --data DIR")
    endings = tuple(suffixes)
    found: list[tuple[str, int]] = []
    problems = Problems()
    seen: set[str] = set()
    any_beside, digest = False, hashlib.sha256()

    def unreadable(error: OSError) -> None:
        problems.count("unreadable file", f"{os.path.relpath(error.filename, root)}: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        folders.sort()  # so that of two links to one directory the same one is followed everywhere
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if not _OWN.isdisjoint(names):
            folders.clear()
            continue
        for name in sorted(names):
            path = Path(folder, name)
            below = path.relative_to(root).as_posix()
            if not name.lower().endswith(endings):
                if name.lower().endswith(tuple(beside)):
                    any_beside = True
                    digest.update(f"{below}\0".encode(errors="surrogateescape"))
                elif kind := kind_of_other(below):
                    problems.count(kind, below)
            elif path.is_file():
                found.append((_utf8(below, root), path.stat().st_size))
            else:
                problems.count("unreadable file", f"{below}: a link to nothing" if path.is_symlink() else below)
    hashed = digest.hexdigest() if any_beside else None
    return Listing(root=root, files=tuple(sorted(found)), problems=problems, beside=hashed)


def kind_of_other(name: str) -> str:
    """Return the kind of problem that a file is which a source does not read, by its path."""
    path = PurePosixPath(name.lower())
    hidden = any(part.startswith(".") or part == "__macosx" for part in path.parts[:-1])
    return "other file" if hidden or _OTHER_NAMES.fullmatch(path.name) else "unknown file name"


def _utf8(name: str, root: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name of {name!r} below {root} is not UTF-8: rename it") from error
    return name
