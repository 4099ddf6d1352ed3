"""ACROSS' losses against what their equations say, in float64, gradients too; and what the one pass saves."""

import math

import pytest
import torch
from torch import Tensor

from models.losses.consistency import cross_entropy_and_divergence
from models.losses.document_contrast import document_contrast

T, D, E, W = 7, 5, 4, 13


def inputs(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[list[Tensor], list[Tensor], Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = [(T, D), (W, D), (W,)], [(T, E), (W, E), (W,)]
    learning, frozen = (
        [scale * torch.randn(shape, generator=random, dtype=torch.float64) for shape in of_one] for of_one in shapes
    )
    target = torch.randint(W, (T,), generator=random)
    return [x.to(dtype).requires_grad_() for x in learning], [x.to(dtype) for x in frozen], target


def as_written(learning: list[Tensor], frozen: list[Tensor], target: Tensor, e: float) -> tuple[Tensor, Tensor]:
    """Per token: Eq. 2 with smoothed targets, and Eq. 8 word by word."""
    entropies, divergences = [], []
    for t in range(len(target)):
        p = torch.softmax(learning[1] @ learning[0][t] + learning[2], dim=0)
        q = torch.softmax(frozen[1] @ frozen[0][t] + frozen[2], dim=0)
        smoothed = torch.full((W,), e / W, dtype=torch.float64)
        smoothed[target[t]] += 1 - e
        entropies.append(-(smoothed * p.log()).sum())
        m = (p + q) / 2
        divergences.append(((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2)
    return torch.stack(entropies), torch.stack(divergences)


@pytest.mark.parametrize("slice_tokens", [1, 3, 100])
@pytest.mark.parametrize(("smoothing", "ratio"), [(0.0, 2.0), (0.1, 0.5), (0.1, 0.0)])
def test_both_losses_and_the_gradient_of_their_sum(slice_tokens: int, smoothing: float, ratio: float) -> None:
    learning, frozen, target = inputs()
    weight = torch.tensor([1.0, 2, 0, 1, 3, 1, 1], dtype=torch.float64)
    entropy, divergence, nll = cross_entropy_and_divergence(
        learning[0], (learning[1], learning[2]), frozen[0], (frozen[1], frozen[2]), target, smoothing, ratio,
        slice_tokens, weight_T=weight,
    )  # fmt: skip
    (0.3 * (entropy + ratio * divergence)).backward()
    ours = [x.grad for x in learning]
    again, _, _ = inputs()
    entropies, divergences = as_written(again, frozen, target, smoothing)
    (0.3 * (weight * (entropies + ratio * divergences)).sum()).backward()
    torch.testing.assert_close(entropy, (weight * entropies).sum(), rtol=1e-13, atol=0)
    torch.testing.assert_close(divergence, (weight * divergences).sum(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(nll, as_written(again, frozen, target, 0.0)[0].detach(), rtol=1e-13, atol=0)
    for mine, other in zip(ours, again, strict=True):
        torch.testing.assert_close(mine, other.grad, rtol=1e-11, atol=1e-13)


def test_equal_models_do_not_diverge_and_opposite_ones_by_log_2() -> None:
    hidden, head = torch.eye(2, W, dtype=torch.float64), (torch.eye(W, dtype=torch.float64), torch.zeros(W).double())
    target = torch.tensor([0, 1])
    _, same, _ = cross_entropy_and_divergence(hidden, head, hidden, head, target, 0.0, 1.0)
    assert same.item() == pytest.approx(0, abs=1e-15)
    far = 1e4 * hidden
    _, apart, _ = cross_entropy_and_divergence(far, head, far.flip(0), head, target, 0.0, 1.0)
    assert apart.item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_of_no_probability_leave_finite_gradients(dtype: torch.dtype) -> None:
    learning, frozen, target = inputs(dtype, scale=30.0)
    entropy, divergence, _ = cross_entropy_and_divergence(
        learning[0], (learning[1], learning[2]), frozen[0], (frozen[1], frozen[2]), target, 0.1, 2.0
    )
    (entropy + 2 * divergence).backward()
    assert 0 <= divergence.item() <= T * math.log(2) * 1.001
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in learning)


def test_another_weight_than_was_said_is_refused() -> None:
    learning, frozen, target = inputs()
    entropy, divergence, _ = cross_entropy_and_divergence(
        learning[0], (learning[1], learning[2]), frozen[0], (frozen[1], frozen[2]), target, 0.1, 2.0
    )
    with pytest.raises(RuntimeError, match=r"their ratio was said to be 2\.0"):
        (entropy + divergence).backward()


def test_contrast_of_documents() -> None:
    random = torch.Generator().manual_seed(1)
    source, parallel = torch.randn(2, 3, D, generator=random, dtype=torch.float64)
    negative = torch.randn(4, D, generator=random, dtype=torch.float64)
    counts = torch.tensor([[True, True, True, True], [True, False, False, True], [False] * 4])
    found = document_contrast(source, parallel, negative, counts, 0.1)
    for row in range(3):
        others = [negative[n] for n in range(4) if counts[row, n]]
        near = [torch.exp(torch.cosine_similarity(source[row], h, dim=0) / 0.1) for h in (parallel[row], *others)]
        torch.testing.assert_close(found[row], -torch.log(near[0] / torch.stack(near).sum()))
    assert found[2] == 0, "without negatives there is nothing to tell apart"


def test_an_empty_place_of_the_queue_leaves_finite_gradients() -> None:
    source = torch.randn(2, D, requires_grad=True)
    counts = torch.tensor([[True, False], [False, False]])
    document_contrast(source, torch.ones(2, D), torch.zeros(2, D), counts, 0.1).sum().backward()
    assert source.grad is not None
    assert source.grad.isfinite().all()
