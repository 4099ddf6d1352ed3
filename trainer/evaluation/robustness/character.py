"""Perturbations of characters: grapheme clusters are exchanged, moved, left out or added, never taken apart.

Only clusters that begin with a letter or a digit take part. `share` is of them; a larger one changes what a smaller one
changed, and more. Every text changes that can.
"""

import random
from collections.abc import Sequence

from trainer.evaluation.robustness.confusions import RUNS, SPLITS
from trainer.evaluation.robustness.keys import (
    Alternatives,
    exchanged,
    keyboard_neighbours,
    look_alikes,
    near_keys,
)
from trainer.evaluation.robustness.text import clusters, how_many, in_random_order, is_letter


def has_keyboard(language: str) -> bool:
    """Whether the language is typed on keys that are its characters."""
    return bool(keyboard_neighbours(language))


def keyboard(text: str, language: str, share: float, draw: random.Random) -> str:
    """A key beside the right one, on the language's keyboard."""
    return _mistaken(text, near_keys(language), share, draw, runs=False)


def ocr(text: str, language: str, share: float, draw: random.Random) -> str:
    """What looks like it in print; in Latin script also two letters for one, and one for two (rn, m)."""
    return _mistaken(text, look_alikes(language), share, draw, runs=True)


def insert(text: str, language: str, share: float, draw: random.Random) -> str:
    """Another character of the same text behind a character."""
    parts, letters = _parts(text)
    added = list(parts)
    for place in _some(letters, share, draw):
        added[place] += parts[draw.choice(letters)]
    return "".join(added)


def replace(text: str, language: str, share: float, draw: random.Random) -> str:
    """Another character of the same text in place of a character."""
    parts, letters = _parts(text)
    written = list(parts)
    different = sorted({parts[place] for place in letters})
    if len(different) < 2:
        return text
    for place in _some(letters, share, draw):
        others = [part for part in different if part != parts[place]]
        written[place] = draw.choice(others)
    return "".join(written)


def swap(text: str, language: str, share: float, draw: random.Random) -> str:
    """Two neighbours in a word change places. `share` of the characters move."""
    parts, letters = _parts(text)
    pairs = [place for place in letters if is_letter("".join(parts[place + 1 : place + 2]))]
    pairs = [place for place in pairs if parts[place] != parts[place + 1]]
    wanted, moved = how_many(share / 2, len(letters)), set[int]()
    for number in in_random_order(len(pairs), draw):
        place = pairs[number]
        if len(moved) < 2 * wanted and not moved & {place, place + 1}:
            moved |= {place, place + 1}
            parts[place : place + 2] = parts[place + 1], parts[place]
    return "".join(parts)


def delete(text: str, language: str, share: float, draw: random.Random) -> str:
    """A character is left out. The last one that is left stays."""
    parts, letters = _parts(text)
    for place in _some(letters, share, draw)[: len(letters) - 1]:
        parts[place] = ""
    return "".join(parts)


def _parts(text: str) -> tuple[list[str], list[int]]:
    """A text's clusters, and the places of those that take part."""
    parts = clusters(text)
    return parts, [place for place, part in enumerate(parts) if is_letter(part)]


def _some(places: Sequence[int], share: float, draw: random.Random) -> list[int]:
    order = in_random_order(len(places), draw)
    return [places[number] for number in order[: how_many(share, len(places))]]


def _mistaken(text: str, alternatives: Alternatives, share: float, draw: random.Random, *, runs: bool) -> str:
    """`share` of the characters, or all that can be mistaken, are."""
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
