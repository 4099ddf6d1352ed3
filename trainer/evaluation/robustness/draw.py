"""Draw what a perturbation changes, by random numbers that follow from the example alone."""

import random


def in_random_order(count: int, draw: random.Random) -> list[int]:
    """Return 0 .. count-1 shuffled: a larger share of them begins with those of a smaller one."""
    order = list(range(count))
    draw.shuffle(order)
    return order


def how_many(share: float, of: int, *, least: int = 1) -> int:
    """Return the share of `of` pieces, rounded; at least `least`, so that short texts change as well."""
    return min(of, max(least, int(share * of + 0.5)))


def some(places: list[int], share: float, draw: random.Random) -> list[int]:
    """Return a share of the places, in random order."""
    order = in_random_order(len(places), draw)
    return [places[number] for number in order[: how_many(share, len(places))]]


def swap_neighbours(pieces: list[str], pairs: list[tuple[int, int]], wanted: int, draw: random.Random) -> None:
    """Exchange up to `wanted` of the pairs of places, none of which moves twice."""
    moved = set[int]()
    for number in in_random_order(len(pairs), draw):
        pair = set(pairs[number])
        if len(moved) < 2 * wanted and not moved & pair:
            moved |= pair
            one, other = pairs[number]
            pieces[one], pieces[other] = pieces[other], pieces[one]
