"""Check the manifest, the hashes of the files that it names, and the stories' keys."""

import hashlib
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shards.errors import InputError
from shards.format.index import STORY_KEY
from shards.format.manifest import INDEX_FILES, SPLITS, Manifest, check_manifest, content_hash, read_values
from shards.format.verification.findings import SHOWN, Findings

#: Keys whose hashes are in memory at a time, 16 bytes each.
_KEYS = 1 << 21
_KEY = re.compile(STORY_KEY.encode())


def read_claims(directory: Path, findings: Findings) -> Manifest:
    """Return the manifest, also where its hash says that it was changed, which is a finding.

    Raises `InputError` where there is none, or none of this format: nothing can be held against it.
    """
    path = directory / "manifest.json"
    if not path.is_file():
        raise InputError(f"no corpus at {directory} (manifest.json is missing): name the directory of a finished one")
    values = read_values(path)
    manifest = check_manifest(values, str(path))
    if manifest.content_hash != content_hash(values):
        findings.add("manifest.json: was changed after it was written (its hash differs)")
    for split in SPLITS:
        stories = sum(shard.stories for shard in manifest.shards if shard.split == split)
        if split not in manifest.splits:
            findings.add(f"manifest.json: lacks the split {split}")
        elif manifest.splits[split].stories != stories:
            findings.add(
                f"manifest.json: says {manifest.splits[split].stories:,} stories in {split}, its shards {stories:,}"
            )
    names = [shard.name for shard in manifest.shards]
    for name in sorted({name for name in names if names.count(name) > 1}):
        findings.add(f"manifest.json: names {name} more than once")
    needed = set(INDEX_FILES) | ({"pixels.npy"} if manifest.pixels else set())
    needed |= {"variants.npy"} if manifest.has_variants else set()
    needed |= {"labels.npy"} if manifest.labels else set()
    for missing in sorted(needed - set(manifest.files)):
        findings.add(f"manifest.json: does not vouch for {missing}")
    return manifest


def check_file(directory: Path, manifest: Manifest, name: str, findings: Findings) -> None:
    """Check size and SHA-256 of one file of the index."""
    path, claim = directory / name, manifest.files[name]
    if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
        findings.add(f"{name}: is no regular file")
        return
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != claim.bytes:
                findings.add(f"{name}: is {size:,} bytes, the manifest says {claim.bytes:,}")
            elif hashlib.file_digest(file, "sha256").hexdigest() != claim.sha256:
                findings.add(f"{name}: is not what was written (its SHA-256 differs)")
    except FileNotFoundError:
        findings.add(f"{name}: is missing")
    except OSError as error:
        findings.add(f"{name}: cannot be read ({error.strerror or error})")


def check_keys(directory: Path, manifest: Manifest, findings: Findings) -> list[int] | None:
    """Check story_keys.txt: one key a line, none twice. Return the byte where each shard's keys begin, or None."""
    path = directory / "story_keys.txt"
    starts, total = manifest.first_stories.tolist(), int(manifest.first_stories[-1])
    begins: list[int] = []
    number = place = 0
    if not path.is_file():
        return None  # reported with its size
    try:
        for line in _lines(path):
            while len(begins) < len(manifest.shards) and starts[len(begins)] == number:
                begins.append(place)
            if not (line.endswith(b"\n") and _KEY.fullmatch(line[:-1])):
                findings.add(f"story_keys.txt, line {number + 1}: {line[:80]!r} is not a percent-encoded key")
            number, place = number + 1, place + len(line)
        if number != total:
            findings.add(f"story_keys.txt: holds {number:,} keys, the manifest says {total:,} stories")
        for part in range(parts := 1 + number // _KEYS):
            _check_twice(path, manifest, part, parts, findings)
    except OSError:
        return None  # reported with its size
    return begins if number == total else None


def _check_twice(path: Path, manifest: Manifest, part: int, parts: int, findings: Findings) -> None:
    """Report keys that come twice, among those whose hash falls into this part."""
    hashes, numbers = array("Q"), array("Q")
    for number, line in enumerate(_lines(path)):
        key = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")
        if key % parts == part:
            hashes.append(key)
            numbers.append(number)
    found, number_of = np.array(hashes, np.uint64), np.array(numbers, np.int64)
    order = np.argsort(found, kind="stable")
    again = np.flatnonzero(np.diff(found[order]) == 0)
    pairs = [(int(number_of[order[i]]), int(number_of[order[i + 1]])) for i in again[:SHOWN]]
    wanted = {number for pair in pairs for number in pair}
    text = (
        {
            number: line.decode("ascii", "backslashreplace").rstrip()
            for number, line in enumerate(_lines(path))
            if number in wanted
        }
        if wanted
        else {}
    )

    def shard(number: int) -> str:
        place = int(np.searchsorted(manifest.first_stories, number, side="right")) - 1
        return manifest.shards[place].name if place < len(manifest.shards) else "no shard"

    findings.add_many(
        len(again),
        (f"story_keys.txt: {text[one]} comes twice, in {shard(one)} and in {shard(two)}" for one, two in pairs),
    )


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from file
