"""A whole step in bfloat16 and float16 against float64 at the same rounded weights: terms, and every gradient."""

import copy
from collections.abc import Mapping

import pytest
import torch
from test_plain_d2tv import mixed_batch
from torch import Tensor

from models.network import Network
from models.objectives.d2tv import D2TV, D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, tiny_config
from tests.support.objectives import outputs_of
from tests.unit.models.test_marked_texts import MBART

STEP, PERTURBATIONS = 10, 6
#: See the test.
FACTOR = 5.0
#: Of the loss in float16, as loss scaling multiplies it: gradients of a small network would be below its smallest
#: numbers. A power of two rounds nothing.
SCALE = 1024.0


def build(backbone: str, dtype: torch.dtype) -> D2TV:
    """Noise on every parameter, so that no path starts at zero."""
    torch.manual_seed(0)
    config = tiny_config()
    if backbone == "mbart":
        config = config.model_copy(update={"text": MBART.model_copy(update={"dropout": 0.0})})
    network = Network(config, 50, PAD_ID, EOS_ID, marks_texts=backbone == "mbart")
    objective = D2TV(D2TVConfig(alpha_steps=100, temperature=0.5), network)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective.to(dtype)


def step(objective: D2TV, scale: float = 1.0, weights: Mapping[str, float] | None = None) -> dict[str, Tensor]:
    """All that a step computes, in float64: each term, and each module's gradients as one vector.

    A bias is judged together with its weight: a key's has no gradient at all but what is rounded off. weights: other
    than the objective's, by term.
    """
    terms = outputs_of(objective, mixed_batch(), STEP).terms
    factor = {name: term.weight for name, term in terms.items()} | dict(weights or {})
    objective.zero_grad()
    (scale * sum(factor[name] * term.sum / term.count for name, term in terms.items())).backward()
    found: dict[str, list[Tensor]] = {name: [term.sum.detach().double()[None]] for name, term in terms.items()}
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None
        gradient = parameter.grad.double().flatten() / scale
        for part in (name.rpartition(".")[0], "all gradients"):
            found.setdefault(part, []).append(gradient)
    return {name: torch.cat(parts) for name, parts in found.items()}


def perturbed(objective: D2TV, share: float, seed: int) -> dict[str, Tensor]:
    """The step where every weight is off by `share` of itself, up or down at random."""
    other = copy.deepcopy(objective)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1 + share * (2 * torch.randint(2, parameter.shape, generator=random) - 1))
    return step(other)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float16, SCALE)], ids=["bf16", "fp16"])
@pytest.mark.parametrize("backbone", ["mt5", "mbart"])
def test_a_step_is_as_near_as_its_roundings(backbone: str, dtype: torch.dtype, scale: float) -> None:
    """Measure, in float64 alone, what a rounding does to a gradient far away: that depends on the network.

    Rounding a number is to be off by a random share of it, of u / sqrt(3) at most in the root mean square, u the unit
    roundoff. Turning every weight by u up or down at random does as much to what a linear layer makes of it as three
    roundings of that would, here forward and backward at once. An attention has five weights (norm, query, key, value,
    output) and eleven roundings on its way (norm, query, key, value; score, bias, mask; probability, mixture; output,
    sum) forward, and as many backward: sqrt(22 / 3 / 5) = 1.2 times what the perturbation does. A feed-forward layer
    has four, and seven and eight: 1.1 times. So the error of a step, in the L2 norm of each module's gradient and of
    all, and of each term, is some 1.2 times the root mean square of what the perturbations change; and four times that
    where chance has it, one draw being compared with a few. That is FACTOR.

    It is a bound that something wrong passes by far: the contrast left out, or both weights of Eq. 8 exchanged.
    """
    low = build(backbone, dtype)
    exact = copy.deepcopy(low).double()
    expected, share = step(exact), torch.finfo(dtype).eps / 2
    draws = [perturbed(exact, share, seed) for seed in range(PERTURBATIONS)]
    spread = {
        name: torch.stack([draw[name] - value for draw in draws]).square().sum(dim=1).mean().sqrt().item()
        for name, value in expected.items()
    }

    def excess(found: dict[str, Tensor]) -> dict[str, float]:
        return {name: (found[name] - value).norm().item() / spread[name] for name, value in expected.items()}

    worst = sorted(((error, name) for name, error in excess(step(low, scale)).items()), reverse=True)
    assert worst[0][0] <= FACTOR, worst[:5]

    teacher = max(0.5, 1 - STEP / 100)
    wrong = {
        "no contrast": {"tco": 0.0},
        "exchanged": {"kd_teacher_to_student": 1 - teacher, "kd_student_to_teacher": teacher},
    }
    for what, weights in wrong.items():
        assert max(excess(step(low, scale, weights)).values()) > 1.4 * FACTOR, what


@pytest.mark.parametrize("backbone", ["mt5", "mbart"])
def test_halving_the_roundoff_halves_the_error(backbone: str) -> None:
    """float16 has three bits more than bfloat16: what does not shrink with them is no rounding."""
    error = {}
    for dtype, scale in ((torch.bfloat16, 1.0), (torch.float16, SCALE)):
        low = build(backbone, dtype)
        expected = step(copy.deepcopy(low).double())["all gradients"]
        error[dtype] = ((step(low, scale)["all gradients"] - expected).norm() / expected.norm()).item()
    assert error[torch.float16] < error[torch.bfloat16] / 2
