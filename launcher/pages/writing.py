"""Which way a text runs on a page."""

from launcher.pages.page import escape
from shards.languages import LANGUAGE_CODES

#: Languages that are written from right to left.
_RIGHT_TO_LEFT = {"ar", "fa", "ps", "ur"}


def written_in(language: str | None) -> str:
    """The attributes of an element whose text is in `language`; where it is none of ours, the letters tell.

    Letters alone are no guide for a known language: an Urdu headline may begin with a Latin name.
    """
    code = LANGUAGE_CODES.get(language or "")
    if code is None:
        return 'dir="auto"'
    return f'lang="{escape(code)}" dir="{"rtl" if code in _RIGHT_TO_LEFT else "ltr"}"'
