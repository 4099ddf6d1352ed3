"""Perturb a share of the characters of a text.

Grapheme clusters are exchanged, moved, left out or added, never divided. Only those that begin with a letter or a digit
take part. A larger share changes all that a smaller one changes.
"""

import random

import regex

from trainer.evaluation.robustness.confusions import RUNS, SPLITS
from trainer.evaluation.robustness.draw import how_many, in_random_order, some, swap_neighbours
from trainer.evaluation.robustness.keys import (
    Alternatives,
    exchanged,
    keyboard_neighbours,
    look_alikes,
    near_keys,
)
from trainer.evaluation.scoring.pieces import clusters

_LETTER = regex.compile(r"[\p{L}\p{N}]")


def has_keyboard(language: str) -> bool:
    """Return True if the language is typed on keys that are its characters."""
    return bool(keyboard_neighbours(language))


def keyboard(text: str, language: str, share: float, draw: random.Random) -> str:
    """Hit a key beside the right one, on the language's keyboard."""
    return _mistaken(text, near_keys(language), share, draw, runs=False)


def ocr(text: str, language: str, share: float, draw: random.Random) -> str:
    """Write a look-alike in print; in Latin script also two letters for one, and one for two (rn, m)."""
    return _mistaken(text, look_alikes(language), share, draw, runs=True)


def insert(text: str, language: str, share: float, draw: random.Random) -> str:
    """Add another character of the same text behind a character."""
    parts, letters = _parts(text)
    added = list(parts)
    for place in some(letters, share, draw):
        added[place] += parts[draw.choice(letters)]
    return "".join(added)


def replace(text: str, language: str, share: float, draw: random.Random) -> str:
    """Write another character of the same text in place of a character."""
    parts, letters = _parts(text)
    written = list(parts)
    different = sorted({parts[place] for place in letters})
    if len(different) < 2:
        return text
    for place in some(letters, share, draw):
        others = [part for part in different if part != parts[place]]
        written[place] = draw.choice(others)
    return "".join(written)


def swap(text: str, language: str, share: float, draw: random.Random) -> str:
    """Exchange neighbours in a word. `share` of the characters move."""
    parts, letters = _parts(text)
    pairs = [
        (place, place + 1)
        for place in letters
        if place + 1 < len(parts) and _is_letter(parts[place + 1]) and parts[place] != parts[place + 1]
    ]
    swap_neighbours(parts, pairs, how_many(share / 2, len(letters)), draw)
    return "".join(parts)


def delete(text: str, language: str, share: float, draw: random.Random) -> str:
    """Leave characters out, never all."""
    parts, letters = _parts(text)
    for place in some(letters, share, draw)[: len(letters) - 1]:
        parts[place] = ""
    return "".join(parts)


def _parts(text: str) -> tuple[list[str], list[int]]:
    """Return a text's clusters, and the places of those that take part."""
    parts = clusters(text)
    return parts, [place for place, part in enumerate(parts) if _is_letter(part)]


def _is_letter(cluster: str) -> bool:
    return _LETTER.match(cluster) is not None


def _mistaken(text: str, alternatives: Alternatives, share: float, draw: random.Random, *, runs: bool) -> str:
    """Exchange a share of the characters, or all that have alternatives."""
    parts, letters = _parts(text)
    written = list(parts)
    wanted, taken = how_many(share, len(letters)), set[int]()
    for number in in_random_order(len(letters), draw):
        if wanted == 0:
            break
        place = letters[number]
        options = [(other, 1) for other in exchanged(parts[place], alternatives)]
        if runs:
            pair = "".join(parts[place : place + 2])
            options += [(RUNS[pair], 2)] if pair in RUNS and len(pair) == 2 else []
            options += [(SPLITS[parts[place]], 1)] if parts[place] in SPLITS else []
        options = [option for option in options if taken.isdisjoint(range(place, place + option[1]))]
        if options:
            other, length = draw.choice(options)
            written[place : place + length] = [other, *[""] * (length - 1)]
            taken |= set(range(place, place + length))
            wanted -= 1
    return "".join(written)
