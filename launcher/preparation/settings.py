"""Hold the settings of `d2tv prepare`: those that shape the corpus, and those that only divide the work."""

from dataclasses import asdict, dataclass
from typing import Any

from launcher.preparation.augmentation.settings import Augmentation
from shards.corpora import entry_of
from shards.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSettings:
    """Hold all that shapes a corpus besides its data.

    stories: limits it, for trials.  without_images: for crosssum.  pixels: keeps the image files, where there are some.
    augment: how the training split gets variants; None for a corpus without.
    """

    source: str
    vocab_size: int = 16000
    character_coverage: float = 0.99
    stories_per_shard: int = 64
    stories: int | None = None
    without_images: bool = False
    pixels: bool = False
    augment: Augmentation | None = None

    def noted(self) -> dict[str, Any]:
        """Return them as the manifest keeps them: JSON-able, flags and augmentation only where they are on."""
        noted = {name: value for name, value in asdict(self).items() if value is not False and name != "augment"}
        return noted | ({"augment": self.augment.noted()} if self.augment else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Hold the part of the work that a call does, and how; the corpus does not depend on it.

    workers: processes.  part: (i, n), the i-th of n parts, from 1: its shards and nothing else.  finish: no shards,
    only what follows when all parts are done.  max_problems: how many to bear with (see shards/problems.py).
    """

    workers: int = 1
    part: tuple[int, int] | None = None
    finish: bool = False
    max_problems: int = 1000


def settings_for(source: str, *, vocab_size: int | None = None, **others: Any) -> PrepareSettings:
    """Return the settings of a corpus, with the tokenizer that fits its source where none is asked for.

    Raises: InputError for an unknown source.
    """
    entry = entry_of(source)
    return PrepareSettings(
        source=source,
        vocab_size=entry.pieces if vocab_size is None else vocab_size,
        character_coverage=entry.coverage,
        **others,
    )


def parse_part(text: str) -> tuple[int, int]:
    """Return "2/3" as (2, 3): the second of three parts; `InputError` for anything else."""
    index, slash, parts = text.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal() and 1 <= int(index) <= int(parts)):
        raise InputError(f"--part {text!r}: parts are written 1/n to n/n, the second of three as 2/3")
    return int(index), int(parts)


def check(settings: PrepareSettings, share: Share) -> None:
    """Raise `InputError` for numbers that make no sense."""
    for name, value in (
        ("--vocab-size", settings.vocab_size),
        ("--stories-per-shard", settings.stories_per_shard),
        ("--stories", settings.stories),
        ("--workers", share.workers),
    ):
        if value is not None and value < 1:
            raise InputError(f"{name} {value}: it must be at least 1")
    if settings.pixels and not entry_of(settings.source).keeps_pixels:
        raise InputError(f"--pixels: the files of {settings.source} hold features and no images: leave it out")
    if share.max_problems < 0:
        raise InputError(f"--max-problems {share.max_problems}: it must be at least 0")
    if share.part and share.finish:
        raise InputError("--part writes shards and --finish what follows them: give one of the two")
