"""Where stories come from: one file a corpus, each an implementation of `Source`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from shards.corpora.npm import CLDR, EMOJI_IMAGES, RESNET, Package
from shards.errors import InputError, did_you_mean
from shards.schema import Story

#: the names `open_source` knows.
SOURCES: tuple[str, ...] = ("emoji",)


class Source(Protocol):
    """A corpus that can be turned into shards."""

    @property
    def name(self) -> str:
        """The corpus's name: one of `SOURCES`."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Names as in shards/languages.py, sorted; every one has at least one article."""

    def keys(self) -> list[str]:
        """Every story's key, sorted; the same list on every machine."""

    def load(self, keys: Sequence[str]) -> Iterator[Story]:
        """The stories of `keys`, in that order. Image features are computed in batches across them."""

    def provenance(self) -> dict[str, Any]:
        """What the corpus was made from, for its manifest: JSON-able, and free of paths and times."""


def packages_of(name: str) -> tuple[Package, ...]:
    """The packages that the source called `name` is made from; `InputError` for an unknown name."""
    if name == "emoji":
        return (CLDR, *EMOJI_IMAGES.values(), RESNET)
    raise _unknown(name)


def open_source(name: str, cache: Path) -> Source:
    """The source called `name`, with its downloads under `cache`; `InputError` for an unknown name."""
    # Imported on demand: a source's own module may import ours, and none need load the others' libraries.
    if name == "emoji":
        from shards.corpora.emoji import EmojiSource

        return EmojiSource(cache)
    raise _unknown(name)


def _unknown(name: str) -> InputError:
    return InputError(f"unknown corpus {name!r}{did_you_mean(name, SOURCES)}; known: {', '.join(SOURCES)}")
