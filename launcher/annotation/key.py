"""Define the key of a page for annotators: which system wrote which summary. It lies beside the page, never in it."""

import json
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from shards.errors import InputError
from shards.files.read import read_json
from shards.files.write import write_output

#: What a summary is rated for, as in Tables 3 of D2TV and 4 of ACROSS: name -> what an annotator is told.
CRITERIA = {
    "fluency": "reads as a careful writer of the language would have put it: grammatical, clear, in one language",
    "conciseness": "says what it says in few words: no repetition, nothing beside the point",
    "informativeness": "holds what matters most in the document, and nothing that the document does not say",
}
#: The categories of a rating, worst to best.
SCALE = (1, 2, 3, 4, 5)
_CONFIG = ConfigDict(extra="forbid", frozen=True, strict=True)


class Item(BaseModel):
    """An example on the page. summaries: letter -> the systems that wrote it; several where they wrote the same."""

    model_config = _CONFIG
    story: str
    source: str
    target: str
    summaries: dict[str, list[str]]


class Key(BaseModel):
    """page: the hash that a page and the ratings of it carry. items: number on the page -> example."""

    model_config = _CONFIG
    format: Literal["d2tv annotation key"] = "d2tv annotation key"
    page: str
    split: str
    systems: list[str]
    items: dict[str, Item]

    @model_validator(mode="after")
    def _every_system_once(self) -> "Key":
        if not self.systems or not self.items:
            raise ValueError("no system or no item")
        for number, item in self.items.items():
            if Counter(name for names in item.summaries.values() for name in names) != Counter(self.systems):
                raise ValueError(f"item {number} has not one summary of each system")
        return self

    @property
    def summaries(self) -> list[tuple[str, str]]:
        """(item, letter) of every summary on the page, in its order."""
        return [(number, letter) for number, item in self.items.items() for letter in item.summaries]


def key_path(page: Path) -> Path:
    """Return where the key of a page lies: annotation.html has annotation.key.json."""
    return page.with_name(f"{page.stem}.key.json")


def write_key(path: Path, key: Key) -> None:
    """Write the key. `InputError` where it cannot be written."""
    write_output(path, json.dumps(key.model_dump(), indent=1) + "\n", "name another --out")


def check_replaceable(path: Path, key: Key) -> None:
    """`InputError` where `path` holds something else than this key: without its key, ratings mean nothing."""
    if not path.exists():
        return
    try:
        other = read_key(path)
    except InputError as error:
        raise InputError(f"{path} is in the way, and is no key of a page: name another --out") from error
    if other != key:
        raise InputError(
            f"{path} is the key of another page ({other.page}), whose ratings could no longer be read: name another "
            "--out, or move it away"
        )


def read_key(path: Path) -> Key:
    """Read a key. `InputError`, one line, where `path` is none."""
    try:
        return Key.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        problem = f"{where}: {first['msg']}"
    except OSError as error:
        problem = error.strerror or str(error)
    except ValueError as error:
        problem = str(error)
    raise InputError(f"{path} is no key of d2tv annotate ({problem}): name the .key.json written beside the page")
