"""Find the directory of this user's downloads and copies."""

import os
from pathlib import Path

import platformdirs


def default_cache() -> Path:
    """Return the environment's D2TV_CACHE, else the platform's cache directory of this user (`~/.cache/d2tv`)."""
    return Path(os.environ.get("D2TV_CACHE") or platformdirs.user_cache_dir("d2tv")).expanduser()
