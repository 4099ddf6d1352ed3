"""Fingerprint a corpus for a run, and describe how another one differs."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def fingerprint(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest without what would make it large: the shards by one hash."""
    kept = {key: value for key, value in manifest.items() if key not in ("shards", "provenance")}
    return kept | {
        "shard_count": len(manifest["shards"]),
        "shards_sha256": _hash(manifest["shards"]),
        "provenance_sha256": _hash(manifest["provenance"]),
        "settings": manifest["provenance"].get("settings"),
    }


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the differences of two fingerprints in one line, the telling ones first; empty where there is none."""
    found = []
    for key in ("format_version", "name", "settings", "regions", "feature_size", "max_images", "shard_count"):
        if before.get(key) != now.get(key):
            found.append(f"{key} {before.get(key)} -> {now.get(key)}")
    languages = [set(fingerprint["languages"]) for fingerprint in (before, now)]
    for sign, names in (("-", languages[0] - languages[1]), ("+", languages[1] - languages[0])):
        found += [f"languages {', '.join(sign + name for name in sorted(names))}"] if names else []
    for split, counts in before["splits"].items():
        for what, count in counts.items():
            other = now["splits"].get(split, {}).get(what)
            if other != count:
                found.append(f"{split} {what} {count} -> {other}")
    files = [
        name
        for name in sorted(before["files"].keys() | now["files"].keys())
        if before["files"].get(name) != now["files"].get(name)
    ]
    if files:
        found.append(f"content of {', '.join(files)}")
    elif before["shards_sha256"] != now["shards_sha256"]:
        found.append("the shards' names or sizes")
    if not found and before["provenance_sha256"] != now["provenance_sha256"]:
        found.append("nothing but what it was made from")
    return "; ".join(found)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
