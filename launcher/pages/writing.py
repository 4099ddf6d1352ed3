"""Mark up the language and the writing direction of a text."""

from shards.languages import LANGUAGE_CODES

#: Languages that are written from right to left.
_RIGHT_TO_LEFT = {"ar", "fa", "ps", "ur"}


def written_in(language: str | None) -> str:
    """Return the attributes of an element whose text is in `language`; of an unknown one, the letters decide.

    Letters alone mislead for a known language: an Urdu headline may begin with a Latin name.
    """
    code = LANGUAGE_CODES.get(language or "")
    if code is None:
        return 'dir="auto"'
    return f'lang="{code}" dir="{"rtl" if code in _RIGHT_TO_LEFT else "ltr"}"'
