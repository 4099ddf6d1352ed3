"""Check the places that a recipe names: paths of this host, hub ids, URLs.

They are saved with every run, so nothing secret may be in them.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]*")
#: What may be one that lost a slash on its way through a path.
_LIKE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/[^\s'\"]*")
#: The beginning of a URL, also of one that lost a slash on its way through a path.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+)(.*)", re.DOTALL)


def is_url(location: str) -> bool:
    return _URL.match(location) is not None


def shown(location: str) -> str:
    """Return `location` as it may be printed: of a URL, without the user, password, query and fragment."""
    found = _SCHEME.fullmatch(location)
    if found is None:
        return location
    scheme, rest = found.groups()
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return scheme + re.split("@|%40", host)[-1] + slash + path


def without_secrets(text: str) -> str:
    """Return `text`, a message, with every URL in it as `shown` has it."""
    return _LIKE_URL.sub(lambda match: shown(match[0]), shown(text))


def holds_secret(text: str) -> bool:
    """Return True where `text` is or holds a URL with a user, a password, a query (often a signature) or a fragment."""
    return shown(text) != text or any(shown(match[0]) != match[0] for match in _URL.finditer(text))


def _local_path(value: Any) -> Any:
    """Refuse what is no path of this host, and put the home directory for a leading ~."""
    if not isinstance(value, str | Path):
        return value  # which its type refuses
    text = str(value)
    _check_text(text)
    if is_url(text):
        raise ValueError("is a URL, but only a path of this host can be used here")
    return Path(os.path.expanduser(text))


def _corpus_location(text: str) -> str:
    _check_text(text)
    if not is_url(text):
        return _without_tilde(text)
    try:
        urlsplit(text)
    except ValueError as error:
        raise ValueError(f"is no URL ({error})") from None
    return text


def model_location(text: str) -> str:
    """Return the directory or hub id that `text` is, with the home directory for ~/. `ValueError` for anything else."""
    _check_text(text)
    if is_url(text):
        raise ValueError("is a URL: give a directory, or a hub id like owner/name")
    return _without_tilde(text)


def _without_tilde(text: str) -> str:
    """Put the home directory for the ~ of `~/x`; a text that is just ~ may be meant."""
    return os.path.expanduser(text) if "/" in text else text


def _check_text(text: str) -> None:
    if not text.strip():
        raise ValueError("is empty: is a variable of the shell unset?")
    if "\0" in text:
        raise ValueError("holds a zero byte, which no path has")


#: A file or directory of this host; ~ is the home directory, ./~ is one of that name. Saved so that it reads back.
LocalPath = Annotated[
    Path, BeforeValidator(_local_path), PlainSerializer(lambda path: f"./{path}" if str(path)[:1] == "~" else str(path))
]
#: A directory, or a URL of one.
CorpusLocation = Annotated[str, AfterValidator(_corpus_location)]
#: A directory, or an id on the Hugging Face hub.
ModelLocation = Annotated[str, AfterValidator(model_location)]


class MustBeGiven:
    """Marks a type whose empty value is an error even where null is allowed: it guards something."""


#: A file that guards something: given empty, it is refused, because none would leave the door open.
GuardFile = Annotated[LocalPath, MustBeGiven()]
