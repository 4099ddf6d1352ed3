"""50 steps of every recipe against the curves that are kept: exactly on the same machine, to 1e-4 elsewhere."""

import json
from typing import Any

import pytest

from tests.numerics.golden import AGAIN, GOLDEN, NOT_TRAINABLE_HERE, STEPS
from tests.support.forkserver import Program
from tests.support.waiting import HANGING
from trainer.recipe.values import recipe_names


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("golden")
    out, log = folder / "curves.json", folder / "log"
    job = Program("tests.numerics.golden", ["--json", str(out)], output=log)
    assert job.wait(HANGING) == 0, log.read_text()[-4000:]
    return dict(json.loads(out.read_text()))


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if name not in NOT_TRAINABLE_HERE])
def test_loss_curve_is_the_golden_one(measured: dict[str, Any], recipe: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    curve, kept = measured["curves"][recipe], golden["curves"][recipe]
    assert len(curve) == STEPS
    if measured["machine"] == golden["machines"][recipe]:
        assert curve == kept
    else:
        assert curve == pytest.approx(kept, rel=1e-4)


def test_a_curve_repeats_bit_for_bit_on_any_machine(measured: dict[str, Any]) -> None:
    assert measured["curves"][AGAIN] == measured["curves"]["d2tv"]


def test_curves_fall_and_differ(measured: dict[str, Any]) -> None:
    """A golden curve that does not learn, or that two objectives share, would hold nothing."""
    curves = {name: curve for name, curve in measured["curves"].items() if name != AGAIN}
    assert all(sum(curve[-5:]) < 0.96 * sum(curve[:5]) for curve in curves.values())
    assert len({tuple(curve) for curve in curves.values()}) == len(curves)
