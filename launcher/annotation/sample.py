"""Draw the examples that annotators see, and hide which system wrote which summary."""

import random
import string
from collections.abc import Mapping, Sequence

from shards.directions import parse_directions
from shards.errors import InputError
from trainer.evaluation.compare.systems import by_direction
from trainer.evaluation.predictions import Key

#: More systems than letters nobody rates side by side.
MOST_SYSTEMS = len(string.ascii_uppercase)


def in_directions(keys: Sequence[Key], directions: str | None) -> list[Key]:
    """Return the examples in `directions`, spelled as for `d2tv evaluate`; None: all. `InputError` where none is."""
    if directions is None:
        return list(keys)
    languages = sorted({language for key in keys for language in key[1:]})
    wanted = {(languages[source], languages[target]) for source, target in parse_directions(directions, languages)}
    found = [key for key in keys if key[1:] in wanted]
    if not found:
        raise InputError(f"--directions {directions}: no example that all systems have is in one of them")
    return found


def draw(keys: Sequence[Key], count: int, seed: int) -> list[Key]:
    """Draw `count` examples, all where there are fewer: as many of each direction, stories as different as can be.

    They come direction by direction, so that an annotator stays with one language. A pure function of its arguments,
    whatever the order of the keys.
    """
    ordered, pools = sorted(keys), []
    for direction, indices in by_direction(ordered):
        pool = [ordered[index] for index in indices]
        random.Random(f"{seed} {direction}").shuffle(pool)
        pools.append(pool)
    random.Random(f"{seed}").shuffle(pools)
    pools.sort(key=len)  # those with few stories choose first
    found: list[Key] = []
    stories: set[str] = set()
    while len(found) < count and any(pools):
        for pool in pools:
            if not pool or len(found) == count:
                continue
            index = next((index for index, key in enumerate(pool) if key[0] not in stories), 0)
            found.append(pool.pop(index))
            stories.add(found[-1][0])
    return sorted(found, key=lambda key: (key[2], key[1]))


def shuffled(texts: Mapping[str, str], seed: int, key: Key) -> dict[str, tuple[str, list[str]]]:
    """Return letter -> (text, the systems that wrote it) of one example, letters in shuffled order.

    texts: system -> what it wrote. What several wrote word for word stands once. The order follows from the texts
    as well as from the seed: that of one page says nothing of another's.
    """
    writers: dict[str, list[str]] = {}
    for name, text in texts.items():
        writers.setdefault(text, []).append(name)
    order = list(writers.items())
    random.Random(repr((seed, key, order))).shuffle(order)
    return dict(zip(string.ascii_uppercase, order, strict=False))
