"""Draw random numbers that follow from a seed and names, on any machine and in any order."""

import hashlib
import random


def seeded(seed: int, *names: str) -> random.Random:
    """Return a generator that depends on the seed and names alone, the same on every machine."""
    digest = hashlib.blake2b("\0".join((str(seed), *names)).encode("utf-8", "surrogatepass"), digest_size=8)
    return random.Random(int.from_bytes(digest.digest()))
