"""Check arguments that reach other hosts through a shell: DeepSpeed's launcher quotes only those with spaces."""

import re
from collections.abc import Sequence

from shards.errors import InputError
from shards.locations import without_secrets

#: Characters that a shell changes in a word without quotes, and in one within double quotes.
_BARE = re.compile(r"[;&|<>()$`\\\"'\t\n\r]|\{[^}]*,|\{[^}]*\.\.")
_QUOTED = re.compile(r"[$`\\\n\r]")


def check_remote_words(words: Sequence[str]) -> None:
    """Raise `InputError` for a word that the shells of a hostfile's hosts would change or run."""
    for word in words:
        found = (_QUOTED if " " in word else _BARE).search(word)
        if found is not None:
            raise InputError(
                f"{without_secrets(word)!r}: with --hostfile, DeepSpeed passes words through a shell, which would "
                f"change this one at {found[0]!r}: write it into a recipe file, and name that"
            )
