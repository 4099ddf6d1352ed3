"""What counts as a spike of the loss, and which directions are named for it."""

import math
import random

import pytest

from trainer.telemetry.spikes import SpikeDetector

USUAL = {"en>ur": 3.0, "ur>en": 4.0, "en>en": 2.0}


def feed(detector: SpikeDetector, intervals: int, level: float = 3.0, noise: float = 0.02, seed: int = 0) -> list[bool]:
    draw = random.Random(seed)
    found = []
    for _ in range(intervals):
        loss = level + draw.gauss(0, noise)
        tokens = dict.fromkeys(USUAL, 100.0)
        nats = {name: 100.0 * (nll + draw.gauss(0, noise)) for name, nll in USUAL.items()}
        found.append(detector.add(1, loss, nats, tokens) is not None)
    return found


def test_noise_and_a_falling_loss_are_no_spikes() -> None:
    assert not any(feed(SpikeDetector(6.0), 500))
    detector = SpikeDetector(6.0)
    assert not any(detector.add(1, 8.0 * math.exp(-k / 50) + 2, {}, {}) for k in range(300))


def test_a_jump_names_the_directions_that_made_it() -> None:
    detector = SpikeDetector(6.0)
    feed(detector, 20)
    tokens = {"en>ur": 100.0, "ur>en": 10.0, "en>en": 100.0, "ur>ur": 0.0}
    nats = {"en>ur": 900.0, "ur>en": 100.0, "en>en": 200.0, "ur>ur": 0.0}
    spike = detector.add(1, 5.0, nats, tokens)
    assert spike is not None
    assert spike.usual == pytest.approx(3.0, abs=0.05)
    # By the nats that each put on top: 600 and 60; en>en is as it always was and comes last.
    assert [name for name, _, _ in spike.directions] == ["en>ur", "ur>en", "en>en"]
    _, nll, usual = spike.directions[0]
    assert (nll, usual) == (9.0, pytest.approx(3.0, abs=0.1))
    assert not any(feed(detector, 20, seed=1))  # and it is over


def test_not_a_number_is_a_spike() -> None:
    detector = SpikeDetector(6.0)
    feed(detector, 20)
    assert detector.add(1, math.nan, {}, {}) is not None


def test_a_new_level_that_stays_becomes_the_usual_one() -> None:
    detector = SpikeDetector(6.0)
    feed(detector, 40)
    found = feed(detector, 80, level=4.0, seed=2)
    assert found[0]
    assert not any(found[40:])


def test_the_first_intervals_have_nothing_to_be_compared_with() -> None:
    detector = SpikeDetector(6.0)
    assert not any(detector.add(1, loss, {}, {}) for loss in (9.0, 3.0, 30.0))


def test_a_loss_that_hardly_moves_may_move_a_little() -> None:
    detector = SpikeDetector(6.0)
    assert not any(detector.add(1, 2.0, {}, {}) for _ in range(20))
    assert detector.add(1, 2.05, {}, {}) is None
    assert detector.add(1, 2.2, {}, {}) is not None
