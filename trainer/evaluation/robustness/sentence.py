"""Perturb the sentences of a text. A text of one sentence stays as it is."""

import random

from trainer.evaluation.robustness.draw import how_many, in_random_order
from trainer.evaluation.scoring.pieces import sentences


def shuffle(text: str, language: str, share: float, draw: random.Random) -> str:
    """Move a share of the sentences, at least two, to each other's places. Blanks stay."""
    found = sentences(text)
    if len(found) < 2:
        return text
    places = in_random_order(len(found), draw)[: how_many(share, len(found), least=2)]
    bodies = [body for body, _ in found]
    for place, other in zip(places, [*places[1:], places[0]], strict=True):
        bodies[place] = found[other][0]
    return "".join(body + space for body, (_, space) in zip(bodies, found, strict=True))


def drop(text: str, language: str, share: float, draw: random.Random) -> str:
    """Leave out a share of the sentences, never all."""
    found = sentences(text)
    places = in_random_order(len(found), draw)[: how_many(share, len(found))][: max(len(found) - 1, 0)]
    if not places:
        return text
    kept = [piece for place, piece in enumerate(found) if place not in places]
    return "".join(body + space for body, space in kept)
