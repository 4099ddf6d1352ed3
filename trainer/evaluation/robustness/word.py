"""Perturbations of words, as scoring cuts them. `share` is of the text's words; every text changes that can.

What stands between words stays, but for the blank beside a word that is left out.
"""

import random

from trainer.evaluation.robustness.text import clusters, how_many, in_random_order, is_spaced, words

#: In a word's place. No sign for it is known to all tokenizers; this one stands for a gap to people, too.
MASK = "_"


def insert(text: str, language: str, share: float, draw: random.Random) -> str:
    """Another word of the same text behind a word."""
    pieces, places = _pieces(text, language)
    added = list(pieces)
    blank = " " if is_spaced(language) else ""
    for place in _some(places, share, draw):
        added[place] += blank + pieces[draw.choice(places)]
    return "".join(added)


def swap(text: str, language: str, share: float, draw: random.Random) -> str:
    """Two neighbouring words change places. `share` of the words move."""
    pieces, places = _pieces(text, language)
    pairs = [at for at in range(len(places) - 1) if pieces[places[at]] != pieces[places[at + 1]]]
    wanted, moved = how_many(share / 2, len(places)), set[int]()
    for number in in_random_order(len(pairs), draw):
        at = pairs[number]
        if len(moved) < 2 * wanted and not moved & {at, at + 1}:
            moved |= {at, at + 1}
            one, other = places[at], places[at + 1]
            pieces[one], pieces[other] = pieces[other], pieces[one]
    return "".join(pieces)


def delete(text: str, language: str, share: float, draw: random.Random) -> str:
    """Leave words out, each with a blank beside it (a line break of two characters is one). The last one left stays."""
    pieces, places = _pieces(text, language)
    for place in _some(places, share, draw)[: len(places) - 1]:
        pieces[place] = ""
        before, behind = "".join(pieces[:place][-1:]), "".join(pieces[place + 1 : place + 2])
        last, first = "".join(clusters(before)[-1:]), "".join(clusters(behind)[:1])
        if last.isspace() and not first.isspace():
            pieces[place - 1] = before[: -len(last)]
        elif first.isspace() and (not before or last.isspace()):
            pieces[place + 1] = behind[len(first) :]
    return "".join(pieces)


def mask(text: str, language: str, share: float, draw: random.Random) -> str:
    """`_` in place of a word."""
    pieces, places = _pieces(text, language)
    for place in _some(places, share, draw):
        pieces[place] = MASK
    return "".join(pieces)


def _pieces(text: str, language: str) -> tuple[list[str], list[int]]:
    """A text's pieces, and the places of those that are words."""
    found = words(text, language)
    return [piece for piece, _ in found], [place for place, (_, is_word) in enumerate(found) if is_word]


def _some(places: list[int], share: float, draw: random.Random) -> list[int]:
    order = in_random_order(len(places), draw)
    return [places[number] for number in order[: how_many(share, len(places))]]
