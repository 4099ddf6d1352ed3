"""Perturb a share of the words of a text, as scoring cuts them.

What stands between words stays, but for the blank beside a word that is left out.
"""

import random
from itertools import pairwise

from trainer.evaluation.robustness.draw import how_many, some, swap_neighbours
from trainer.evaluation.scoring.pieces import clusters, words

#: In a word's place. No sign for it is known to all tokenizers; readers take this one for a gap.
MASK = "_"
#: Languages without blanks between words.
_UNSPACED = frozenset({"burmese", "chinese_simplified", "chinese_traditional", "japanese", "thai"})


def insert(text: str, language: str, share: float, draw: random.Random) -> str:
    """Add another word of the same text behind a word."""
    pieces, places = _pieces(text, language)
    added = list(pieces)
    blank = "" if language in _UNSPACED else " "
    for place in some(places, share, draw):
        added[place] += blank + pieces[draw.choice(places)]
    return "".join(added)


def swap(text: str, language: str, share: float, draw: random.Random) -> str:
    """Exchange neighbouring words. `share` of the words move."""
    pieces, places = _pieces(text, language)
    pairs = [pair for pair in pairwise(places) if pieces[pair[0]] != pieces[pair[1]]]
    swap_neighbours(pieces, pairs, how_many(share / 2, len(places)), draw)
    return "".join(pieces)


def delete(text: str, language: str, share: float, draw: random.Random) -> str:
    """Leave words out, each with a blank beside it (a line break of two characters is one), never all."""
    pieces, places = _pieces(text, language)
    for place in some(places, share, draw)[: len(places) - 1]:
        pieces[place] = ""
        before, behind = "".join(pieces[:place][-1:]), "".join(pieces[place + 1 : place + 2])
        last, first = "".join(clusters(before)[-1:]), "".join(clusters(behind)[:1])
        if last.isspace() and not first.isspace():
            pieces[place - 1] = before[: -len(last)]
        elif first.isspace() and (not before or last.isspace()):
            pieces[place + 1] = behind[len(first) :]
    return "".join(pieces)


def mask(text: str, language: str, share: float, draw: random.Random) -> str:
    """Write `_` in place of a word."""
    pieces, places = _pieces(text, language)
    for place in some(places, share, draw):
        pieces[place] = MASK
    return "".join(pieces)


def _pieces(text: str, language: str) -> tuple[list[str], list[int]]:
    """Return a text's pieces, and the places of its words among them."""
    found = words(text, language)
    return [piece for piece, _ in found], [place for place, (_, is_word) in enumerate(found) if is_word]
