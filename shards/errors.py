"""Define the error that a user can put right: printed as a single line, exit code 2."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that a person can put right. The message says what is wrong, where, and what to do."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `known`, or the empty string when none is close."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def reason(error: BaseException, most: int = 200) -> str:
    """Return an error's message on one line of at most `most` characters, or its name: some of numpy's have none."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def out_of_memory(error: BaseException) -> str | None:
    """Return the first line of an error that says that memory does not suffice, the host's or a device's, else None.

    torch has no type of its own for the host's.
    """
    said = str(error).strip().splitlines()[:1] or [type(error).__name__]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return said[0]
    return said[0] if isinstance(error, RuntimeError) and "can't allocate memory" in said[0] else None
