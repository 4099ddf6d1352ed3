"""Burmese by syllables, as xl-sum has them (Ding et al. 2019, https://dl.acm.org/doi/10.1145/3325885)."""

_ASAT, _DOT_BELOW, _STACKED = "\u103a", "\u1037", "\u1039"
#: Signs that belong to the character before them.
_DEPENDENT = frozenset(map(chr, (*range(0x102B, 0x1033), *range(0x1036, 0x1039), *range(0x103A, 0x103F))))


def syllables(text: str) -> list[str]:
    """Return the syllables of a text in lower case. Blanks are dropped, and what is not Burmese falls into letters."""
    text = "".join(text.replace(_DOT_BELOW + _ASAT, _ASAT + _DOT_BELOW).split())
    units: list[str] = []
    for character in text:
        if units and character in _DEPENDENT:
            units[-1] += character
        else:
            units.append(character)
    # A unit that asat closes belongs to the one before; a longer one has the vowel of ော်. One that stands behind
    # another such finds its place empty, and stays alone.
    for place in range(1, len(units)):
        if _ASAT in units[place] and len(units[place]) < 4:
            units[place - 1] += units[place]
            units[place] = ""
    spaced = " ".join(unit for unit in units if unit)
    return spaced.replace(f" {_STACKED} ", _STACKED).split()
