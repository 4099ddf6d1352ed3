"""The norms against their formulas in float64, forward and backward: exactly, and within what roundings allow."""

from math import log, sqrt

import pytest
import torch
from torch import Tensor, nn

from models.norms import layer_norm, rms_norm

EPS = 1e-5
KINDS = ["rms", "layer"]
Inputs = dict[str, Tensor]
#: Of a bound that sums of random roundings pass with some probability: of one test, over all of its numbers.
FALSE_ALARM = 1e-9


def make(rows: int, width: int, *, size: float = 1.0, grad_size: float = 1.0, one_sign: bool = False) -> Inputs:
    """Float64: x, weight, bias, and the gradient of the output."""
    torch.manual_seed(0)
    x, grad = (torch.randn(rows, width, dtype=torch.float64) for _ in range(2))
    if one_sign:
        x, grad = x.abs(), grad.abs()
    weight, bias = torch.rand(width, dtype=torch.float64) + 0.5, torch.randn(width, dtype=torch.float64)
    return {"x": x * size, "weight": weight, "bias": bias, "grad": grad * grad_size}


def ours(kind: str, given: Inputs) -> Inputs:
    """Output and gradients, in the inputs' precision."""
    x = given["x"].clone().requires_grad_()
    norm = nn.LayerNorm(x.shape[1], eps=EPS, dtype=x.dtype)
    norm.weight, norm.bias = nn.Parameter(given["weight"].clone()), nn.Parameter(given["bias"].clone())
    wrt = {"x": x, "weight": norm.weight} | ({"bias": norm.bias} if kind == "layer" else {})
    out = layer_norm(x, norm) if kind == "layer" else rms_norm(x, norm.weight, EPS)
    assert out.dtype == x.dtype
    gradients = torch.autograd.grad(out, list(wrt.values()), given["grad"])
    return {"out": out.detach()} | dict(zip(wrt, gradients, strict=True))


def formula(kind: str, given: Inputs) -> Inputs:
    """The same by autograd through the definition, in float64."""
    x, weight, bias = (given[name].double().requires_grad_() for name in ("x", "weight", "bias"))
    centred = x - x.mean(dim=1, keepdim=True) if kind == "layer" else x
    out = centred / torch.sqrt((centred * centred).mean(dim=1, keepdim=True) + EPS) * weight
    wrt = {"x": x, "weight": weight}
    if kind == "layer":
        out, wrt = out + bias, wrt | {"bias": bias}
    gradients = torch.autograd.grad(out, list(wrt.values()), given["grad"].double())
    return {"out": out.detach()} | dict(zip(wrt, gradients, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_float64_is_exact(kind: str) -> None:
    given = make(7, 6)
    expected = formula(kind, given)
    for name, found in ours(kind, given).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-12, atol=1e-13)
    x, norm = given["x"].requires_grad_(), nn.LayerNorm(6, eps=EPS, dtype=torch.float64)
    norm.weight, norm.bias = nn.Parameter(given["weight"]), nn.Parameter(given["bias"])
    if kind == "rms":
        assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, EPS), (x, norm.weight))
    else:
        # gradcheck moves the parameters where they are.
        assert torch.autograd.gradcheck(lambda x, *_: layer_norm(x, norm), (x, norm.weight, norm.bias))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_is_one_number_for_all(kind: str) -> None:
    """As a sum gives it: expanded, without memory of its own."""
    given = make(7, 6)
    given["grad"] = torch.ones((), dtype=torch.float64).expand(7, 6)
    expected = formula(kind, given)
    for name, found in ours(kind, given).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("one_sign", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind: str, one_sign: bool) -> None:
    given = {name: value.float() for name, value in make(4096, 64, one_sign=one_sign).items()}
    expected = formula(kind, given)
    for name, found in ours(kind, given).items():
        assert (found - expected[name]).norm() <= 1e-5 * expected[name].norm(), name
        torch.testing.assert_close(found.double(), expected[name], rtol=1e-5, atol=1e-5 * float(expected[name].std()))


def bounds(kind: str, given: Inputs, expected: Inputs) -> Inputs:
    """How far each number may be off in the precision of `given`: see the test below."""
    dtype = given["x"].dtype
    u, smallest = torch.finfo(dtype).eps / 2, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    x, weight, bias, grad = (given[name].double() for name in ("x", "weight", "bias", "grad"))
    mean = x.mean(dim=1, keepdim=True) if kind == "layer" else torch.zeros_like(x[:, :1])
    r = torch.rsqrt((x - mean).square().mean(dim=1, keepdim=True) + EPS)
    normed, weighted = (x - mean) * r, grad * weight
    # The summands of each number, for the roundings of float32: at most 32 of each in a row.
    noise = 32 * 2.0**-24
    parts = {
        "out": (x.abs() + mean.abs()) * r * weight.abs() + bias.abs(),
        "x": r
        * (weighted.abs() + weighted.abs().mean(1, True) + normed.abs() * (weighted * normed).abs().mean(1, True)),
        "weight": ((x.abs() + mean.abs()) * r * grad.abs()).sum(dim=0),
        "bias": grad.abs().sum(dim=0),
    }
    allowed = {name: u * value.abs() + noise * parts[name] + 4 * smallest for name, value in expected.items()}
    if kind == "rms":
        added = r * weighted.mean(dim=1, keepdim=True)
        allowed["x"] += u * ((expected["x"] - added).abs() + 2 * added.abs())
    deviations = sqrt(4 * log(2 * x.shape[1] / FALSE_ALARM))
    allowed["weight"] += u * deviations * (grad * normed).norm(dim=0)
    return allowed


CASES = {
    "plain": {},
    "one sign": {"one_sign": True},
    "large": {"size": 3e3, "grad_size": 8.0},
    "large, one sign": {"size": 3e3, "grad_size": 8.0, "one_sign": True},
    "small": {"size": 1e-3, "grad_size": 8.0},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_reduced_precision_is_as_near_as_its_roundings(kind: str, dtype: torch.dtype, case: str) -> None:
    """Every number, against float64 at the same rounded inputs; u = eps / 2 is the unit roundoff of `dtype`.

    - out: made in float32 and rounded once, u |out|.
    - x: likewise. RMS norm's is layer norm's with a mean of zero, rounded once, and r * mean(grad * weight), which
      that lacks: rounded as a mean and as a product; the sum of both is rounded, too.
    - bias: summed in float32 and rounded once.
    - weight: a sum over rows of grad * normed, whose terms may be rounded twice (the product of two factors, and the
      third), each time by a random share of at most u. By Hoeffding's inequality such a sum over T rows is off by more
      than u sqrt(4 ln(2 D / f)) times the root of the sum of the terms' squares with a probability of at most f, for
      all D columns. Rounded once more in the end. A sum that is kept in `dtype` is off by far more: 4,096 rows of one
      sign stop to add up at 256 times the size of a term.

    Besides, what is done in float32 is rounded there, and next to zero a number is off by the smallest there is.
    """
    given = {name: value.to(dtype) for name, value in make(4096, 64, **CASES[case]).items()}
    expected = formula(kind, given)
    allowed = bounds(kind, given, expected)
    for name, found in ours(kind, given).items():
        assert found.dtype == dtype
        excess = ((found.double() - expected[name]).abs() / allowed[name]).max().item()
        assert excess <= 1, f"{name}: {excess:.2f} times what roundings explain"
    if kind == "rms" and case.endswith("one sign"):
        assert (allowed["weight"] < torch.finfo(dtype).eps * expected["weight"]).all(), "a bound that says little"


@pytest.mark.parametrize(("size", "grad_size"), [(1.0, 1.0), (3e3, 8.0), (1e4, 500.0), (1e-2, 8.0)])
@pytest.mark.parametrize("one_sign", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_finite_inputs_have_finite_gradients_in_float16(
    kind: str, one_sign: bool, size: float, grad_size: float
) -> None:
    """Where float16 can hold the result: what is between must not pass its largest number, 65,504."""
    made = make(64, 768, size=size, grad_size=grad_size, one_sign=one_sign)
    given = {name: value.half() for name, value in made.items()}
    expected = formula(kind, given)
    for name, found in ours(kind, given).items():
        assert expected[name].abs().max() < torch.finfo(torch.float16).max, "not a test of this"
        assert found.isfinite().all(), name
