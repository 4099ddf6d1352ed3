"""Hashes of a corpus that a test has changed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from shards.format.manifest import content_hash


def reseal(directory: Path, **changes: Any) -> None:
    """Hashes and sizes in the manifest as the files are now: what is wrong is no longer told by them."""
    manifest = json.loads((directory / "manifest.json").read_text()) | changes
    for name in manifest["files"]:
        data = (directory / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for shard in manifest["shards"]:
        shard["bytes"] = (directory / shard["name"]).stat().st_size
    manifest["content_hash"] = content_hash(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))
