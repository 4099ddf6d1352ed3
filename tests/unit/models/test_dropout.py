"""Dropout: its share, its mean, its gradient, and that masks are as random as they must be.

Bounds on what is random are at least six standard deviations, a false alarm in 10^8 runs; and the seeds are fixed.
"""

import math

import pytest
import torch
from torch import Tensor

from models.dropout import Masks, dropout

SIZE = 2**20
LEVELS = 2**16


def kept(p: float, *, size: int = SIZE) -> Tensor:
    """1.0 where an element is kept, float64."""
    return (dropout(torch.ones(size), p, training=True) > 0).double()


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.25, 0.5, 0.9, 0.9999, 0.999999, 1 - 1e-12])
def test_drops_its_share_and_keeps_the_mean(p: float) -> None:
    """p is rounded to 1 / 65,536, but never to 1; what is kept is divided by what that leaves, so the mean is exact."""
    torch.manual_seed(0)
    out = dropout(torch.ones(SIZE, dtype=torch.float64), p, training=True)
    factor = out.max().item()
    assert math.isfinite(factor)
    assert ((out == 0) | (out == factor)).all()
    levels = LEVELS / factor
    assert levels == pytest.approx(round(levels), rel=1e-12)
    assert abs(levels - LEVELS * (1 - p)) <= 2, "the nearest level, but two of them are kept: the factor fits float16"
    mean, share = out.mean().item(), 1 / factor
    deviation = math.sqrt((1 - share) / share / SIZE)
    assert abs(mean - 1) <= 6 * deviation


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.1, 0.25, 0.9, 0.999])
def test_the_mean_is_off_by_a_rounding_at_most(dtype: torch.dtype, p: float) -> None:
    """Of the factor, which is not a number of `dtype`. Whether an element is kept does not depend on `dtype`."""
    torch.manual_seed(0)
    out = dropout(torch.ones(SIZE, dtype=dtype), p, training=True)
    torch.manual_seed(0)
    exact = dropout(torch.ones(SIZE, dtype=torch.float64), p, training=True)
    assert torch.equal(out == 0, exact == 0)
    assert ((out.double() - exact).abs() <= torch.finfo(dtype).eps / 2 * exact).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 5), (0, 4)])
def test_dtype_and_shape_are_kept(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)
    out = dropout(x, 0.5, training=True)
    assert out.dtype == dtype
    assert out.shape == shape
    assert ((out == 0) | (out == 2 * x)).all()


def test_elements_of_a_transposed_matrix() -> None:
    x = torch.arange(1.0, 16).view(3, 5).T
    out = dropout(x, 0.5, training=True)
    assert ((out == 0) | (out == 2 * x)).all()


@pytest.mark.parametrize(("p", "training"), [(0.3, False), (0.0, True), (0.0, False)])
def test_nothing_is_dropped_in_evaluation_or_at_zero(p: float, training: bool) -> None:
    x = torch.randn(100)
    before = torch.random.get_rng_state()
    assert torch.equal(dropout(x, p, training), x)
    assert torch.equal(torch.random.get_rng_state(), before)  # what comes after draws what it would have drawn


def test_torchs_seed_decides_and_every_call_draws_anew() -> None:
    def draw(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [kept(0.3, size=1000) for _ in range(3)]

    first = draw(7)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(7), strict=True))
    masks = [*first, *draw(8)]
    assert not any(torch.equal(a, b) for number, a in enumerate(masks) for b in masks[:number])


def test_the_gradient_has_the_same_mask() -> None:
    torch.manual_seed(0)
    x, weight = (torch.randn(50, 20, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    out = dropout(x, 0.3, training=True)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    mask = (out / x).detach()
    assert 0.6 < (mask > 0).double().mean() < 0.8
    torch.testing.assert_close(gradient, weight * mask)
    assert torch.equal(gradient == 0, mask == 0)


def correlation(one: Tensor, other: Tensor, p: float) -> float:
    """In standard deviations of that of independent masks."""
    return float(((one - (1 - p)) * (other - (1 - p))).sum()) / (p * (1 - p) * math.sqrt(len(one)))


@pytest.mark.parametrize("p", [0.125, 0.5])
def test_neighbours_are_independent(p: float) -> None:
    """Four elements are cut out of one random number, so lags up to eight reach into the next but one."""
    torch.manual_seed(0)
    mask = kept(p)
    found = {lag: correlation(mask[:-lag], mask[lag:], p) for lag in range(1, 9)}
    assert all(abs(deviations) < 6 for deviations in found.values()), found


@pytest.mark.parametrize("p", [0.125, 0.5])
def test_every_pattern_of_eight_neighbours_is_as_frequent_as_chance_has_it(p: float) -> None:
    """Chi-square over 256 patterns, of 131,072 windows; a false alarm in 10^9 runs."""
    torch.manual_seed(0)
    windows = kept(p).view(-1, 8)
    number = (windows.long() << torch.arange(8)).sum(dim=1)
    patterns = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    ones = patterns.sum(dim=1).double()
    expected = len(windows) * (1 - p) ** ones * p ** (8 - ones)
    # Rare ones together: the distribution is chi-square's where some five of each are expected.
    rare = expected < 5
    observed = torch.bincount(number, minlength=256).double()
    observed, expected = (torch.cat((x[~rare], x[rare].sum()[None])) for x in (observed, expected))
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic = ((observed - expected).square() / expected).sum()
    freedom = len(expected) - 1
    assert torch.special.gammaincc(torch.tensor(freedom / 2).double(), statistic / 2) > 1e-9


@pytest.mark.parametrize("p", [0.125, 0.5])
def test_masks_of_a_stream_of_calls_and_of_neighbouring_seeds_are_independent(p: float) -> None:
    torch.manual_seed(0)
    stream = Masks(p)
    shape = torch.Size([SIZE // 4])
    masks = [(stream.draw(shape, torch.float64) > 0).double() for _ in range(3)]
    masks += [kept(p, size=SIZE // 4) for _ in range(3)]
    for seed in (1, 2):
        torch.manual_seed(seed)
        masks.append(kept(p, size=SIZE // 4))
    found = [correlation(one, other, p) for number, one in enumerate(masks) for other in masks[:number]]
    assert all(abs(deviations) < 6 for deviations in found), found
