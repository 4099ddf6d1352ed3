"""Permute ranges by a key, by position: a whole permutation is never written down."""

import numpy as np

from shards.arrays import Ints, Keys

_ROUNDS = 6


def key_of(seed: int, *values: Ints) -> Keys:
    """Return a 64-bit key of the seed and the values (splitmix64's finaliser, value by value)."""
    key: Keys = np.full(values[0].shape, np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    for value in values:
        key = _scramble(key ^ (value.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    return key


def permute(position: Ints, size: Ints, key: Keys) -> Ints:
    """Return another position below size: a keyed bijection of each range(size).

    A Feistel network on as many bits as size - 1 has, in two halves (or nearly), walked until it falls inside the
    range (Black and Rogaway's cycle walking): fewer than two walks on average.
    """
    bits = np.frexp((size - 1).astype(np.float64))[1].astype(np.uint64)  # sizes are below 2^53
    low_bits = bits >> np.uint64(1)
    low_mask = (np.uint64(1) << low_bits) - np.uint64(1)
    high_mask = (np.uint64(1) << (bits - low_bits)) - np.uint64(1)
    value, limit = position.astype(np.uint64), size.astype(np.uint64)
    walking = np.arange(len(value))
    while len(walking):
        shift, low_m, high_m, k = low_bits[walking], low_mask[walking], high_mask[walking], key[walking]
        low, high = value[walking] & low_m, value[walking] >> shift
        for step in range(0, _ROUNDS, 2):
            high ^= _scramble(low + k + np.uint64(step)) & high_m
            low ^= _scramble(high + k + np.uint64(step + 1)) & low_m
        value[walking] = walked = (high << shift) | low
        walking = walking[walked >= limit[walking]]
    return value.astype(np.int64)


def _scramble(x: Keys) -> Keys:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
