"""Learning rates at the points where people look at them."""

from itertools import pairwise

import pytest

from trainer.recipe import Recipe, load_recipe
from trainer.schedule import learning_rate


def recipe(kind: str, warmup: int = 10, steps: int = 100, peak: float = 0.5) -> Recipe:
    return load_recipe(
        "d2tv",
        [
            f"schedule.kind={kind}",
            f"schedule.warmup_steps={warmup}",
            f"training.steps={steps}",
            f"optimizer.learning_rate={peak}",
        ],
    )


@pytest.mark.parametrize("kind", ["linear", "inverse_sqrt"])
def test_both_rise_in_a_line_to_the_peak(kind: str) -> None:
    rates = [learning_rate(step, recipe(kind)) for step in range(1, 11)]
    assert rates == pytest.approx([0.05 * step for step in range(1, 11)])
    assert learning_rate(10, recipe(kind)) == 0.5


def test_linear_falls_in_a_line_and_reaches_zero_after_the_last_step() -> None:
    rates = [learning_rate(step, recipe("linear")) for step in range(10, 102)]
    assert rates[1] == 0.5
    drops = [a - b for a, b in pairwise(rates[1:])]
    assert drops == pytest.approx([0.5 / 90] * 90)
    assert rates[90] == pytest.approx(0.5 / 90)  # the last step still learns
    assert rates[91] == 0
    assert learning_rate(200, recipe("linear")) == 0


def test_inverse_sqrt_halves_when_the_step_is_four_times_the_warmup() -> None:
    assert learning_rate(40, recipe("inverse_sqrt")) == pytest.approx(0.25)
    assert learning_rate(90, recipe("inverse_sqrt")) == pytest.approx(0.5 / 3)
    assert learning_rate(11, recipe("inverse_sqrt")) < 0.5


@pytest.mark.parametrize("kind", ["linear", "inverse_sqrt"])
def test_no_warmup_begins_at_the_peak(kind: str) -> None:
    assert learning_rate(1, recipe(kind, warmup=0)) == 0.5


def test_a_warmup_longer_than_the_run_never_leaves_the_line() -> None:
    assert [learning_rate(step, recipe("linear", warmup=200)) for step in (1, 100)] == [0.0025, 0.25]
