"""Make text of others (keys, languages, manifests, errors) safe for a terminal."""

from shards.locations import without_secrets

#: A terminal obeys control characters, and bidirectional overrides show a line in another order than it has: C0 and
#: DEL become pictures of themselves, C1, the overrides, other ends of lines and halves of surrogate pairs, which have
#: no bytes, the replacement character. Marks and joiners that scripts need are left alone.
_UNPRINTABLE = (
    {code: 0x2400 + code for code in range(32)}
    | dict.fromkeys(
        [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029, *range(0xD800, 0xE000)],
        0xFFFD,
    )
    | {127: 0x2421}
)
_LINES = {code: picture for code, picture in _UNPRINTABLE.items() if chr(code) not in "\t\n"}


def one_line(text: str) -> str:
    """Replace what would order a terminal about, ends of lines and tabs too: the text stays on its line."""
    return text if text.isprintable() else text.translate(_UNPRINTABLE)


def printable(text: str) -> str:
    """Replace what would order a terminal about; ends of lines and tabs stay."""
    return text if text.isprintable() else text.translate(_LINES)


def error_line(error: BaseException) -> str:
    """Return an error's message as a terminal or a log may have it: on one line, without the secrets of URLs."""
    return one_line(without_secrets(str(error)))
