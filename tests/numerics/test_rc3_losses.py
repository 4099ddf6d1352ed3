"""RC³'s losses against its equations in loops, in float64, gradients too; and where distances are 0 or nothing is."""

import math

import pytest
import rc3_reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.losses.interpolated_contrast import contrast_of_distances, distances, interpolated_contrast
from models.losses.relevance import relevance_divergence
from models.objectives.running_mean import RunningMean

B, K, N, D = 4, 5, 7, 6
QUICK = settings(max_examples=60, deadline=None)
EXACT = {"rtol": 1e-12, "atol": 1e-13}
#: The third anchor has one negative, the last one none.
COUNTS = torch.tensor([[True] * 5, [True, False, True, True, False], [False] * 4 + [True], [False] * 5])
some_distances = st.lists(st.floats(0, 50), min_size=2, max_size=6)


def inputs(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Anchors, positives, candidates; and indices, some of one candidate for several anchors or twice for one."""
    random = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(rows, D, generator=random, dtype=torch.float64) for rows in (B, B, N)]
    index = torch.randint(N, (B, K), generator=random)
    return [x.to(dtype).requires_grad_() for x in tensors], index


def negatives_of(row: int, candidate: Tensor, index: Tensor) -> list[Tensor]:
    return [candidate[index[row, k]] for k in range(K) if COUNTS[row, k]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("slack", "probability"), [(0.9, 0.0), (0.9, 0.37), (0.9, 1.0), (1.0, 1.0)])
def test_contrast_and_its_gradients(slack: float, probability: float, seed: int) -> None:
    learning, index = inputs(seed=seed)
    loss, plain = interpolated_contrast(*learning, index, COUNTS, slack, torch.tensor(probability, dtype=torch.float64))
    weight = torch.tensor([1.0, 0.5, 3, 2], dtype=torch.float64)
    (weight * loss).sum().backward()
    anchor, positive, candidate = again = inputs(seed=seed)[0]
    rows = [(anchor[b], positive[b], negatives_of(b, candidate, index)) for b in range(B)]
    expected = torch.stack([rc3_reference.interpolated_contrast(*row, slack, probability) for row in rows])
    (weight * expected).sum().backward()
    torch.testing.assert_close(loss, expected, **EXACT)
    torch.testing.assert_close(plain, torch.stack([rc3_reference.plain_contrast(*row) for row in rows]), **EXACT)
    assert not plain.requires_grad
    assert loss[3] == 0, "without negatives there is nothing to tell apart"
    for mine, other in zip(learning, again, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, **EXACT)


def test_a_negative_four_times_as_far_is_drawn_to_twice_as_far() -> None:
    """lambda = (1 / 4)^(1 * 0.5) = 1 / 2; the negative at 0.5 is nearer than the positive and stays."""
    points = torch.tensor([[4.0], [0.5]]).double()
    index, counts = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)
    loss, plain = interpolated_contrast(
        torch.zeros(1, 1).double(), torch.ones(1, 1).double(), points, index, counts, 1.0, 0.5
    )
    assert loss.item() == pytest.approx(math.log(1 + math.exp(1 - 2) + math.exp(1 - 0.5)), rel=1e-14)
    assert plain.item() == pytest.approx(math.log(1 + math.exp(1 - 4) + math.exp(1 - 0.5)), rel=1e-14)


@QUICK
@given(some_distances, st.floats(0, 1))
def test_the_positive_is_drawn_in_and_no_negative_is(distance: list[float], probability: float) -> None:
    """With gradient through lambda a negative that is far enough would push the positive away."""
    positive = torch.tensor(distance[:1]).double().requires_grad_()
    negative = torch.tensor([distance[1:]]).double().requires_grad_()
    loss, plain = contrast_of_distances(positive, negative, torch.ones_like(negative) > 0, 0.9, probability)
    loss.sum().backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad.item() == pytest.approx(-math.expm1(-loss.item()), rel=1e-9, abs=1e-12)
    assert bool((negative.grad <= 0).all())
    assert plain.item() - 1e-12 <= loss.item(), "interpolated negatives are harder"


@QUICK
@given(st.data())
def test_order_and_what_does_not_count_are_without_effect(data: st.DataObject) -> None:
    (anchor, positive, candidate), index = inputs()
    probability = data.draw(st.floats(0, 1))
    order = torch.tensor(data.draw(st.permutations(range(K))))
    other = torch.where(COUNTS, index, data.draw(st.integers(0, N - 1)))
    expected = interpolated_contrast(anchor, positive, candidate, index, COUNTS, 0.9, probability)
    found = interpolated_contrast(anchor, positive, candidate, other[:, order], COUNTS[:, order], 0.9, probability)
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("equal", ["positive", "negative", "both", "negatives"])
def test_equal_representations_leave_finite_gradients(equal: str, probability: float, dtype: torch.dtype) -> None:
    anchor = torch.ones(1, D, dtype=dtype, requires_grad=True)
    positive = (torch.ones(1, D) + (equal in ("negative", "negatives"))).to(dtype).requires_grad_()
    candidate = (torch.ones(3, D) + 3.0 * (equal in ("positive", "negatives"))).to(dtype).requires_grad_()
    index, counts = torch.tensor([[0, 1, 2]]), torch.tensor([[True, True, False]])
    loss, plain = interpolated_contrast(anchor, positive, candidate, index, counts, 0.9, probability)
    loss.sum().backward()
    assert loss.dtype == plain.dtype == torch.promote_types(dtype, torch.float32)
    d = math.sqrt(D)
    d_positive, d_negative = {"positive": (0, 3 * d), "negative": (d, 0), "both": (0, 0), "negatives": (d, 3 * d)}[
        equal
    ]
    assert plain.item() == pytest.approx(math.log1p(2 * math.exp(d_positive - d_negative)), abs=1e-6)
    if equal == "positive" and probability:
        assert loss.item() == pytest.approx(math.log(3)), "the negatives were drawn onto the anchor"
    for x in (anchor, positive, candidate):
        assert x.grad is not None
        assert x.grad.dtype == dtype
        assert bool(x.grad.isfinite().all())
    assert candidate.grad is not None
    assert not candidate.grad[2].any(), "what does not count has no gradient"


def test_no_anchors_and_no_candidates() -> None:
    (anchor, positive, candidate), _ = inputs()
    none = torch.zeros(B, 0, dtype=torch.int64)
    loss, plain = interpolated_contrast(anchor, positive, candidate[:0], none, none > 0, 0.9, 0.5)
    assert not loss.any()
    assert not plain.any()
    loss.sum().backward()
    assert anchor.grad is not None
    assert not anchor.grad.any()
    assert len(interpolated_contrast(anchor[:0], positive[:0], candidate, none[:0], none[:0] > 0, 0.9, 0.5)[0]) == 0


def test_near_points_far_from_the_origin_keep_their_distance() -> None:
    """A product of matrices would find |a|^2 - 2 a.b + |b|^2 = 0 or less of points like these."""
    anchor = torch.full((1, D), 1000.0)
    candidate = anchor + torch.tensor([[0.0078125] + [0.0] * (D - 1)])
    assert distances(anchor, candidate, torch.tensor([[0]])).item() == 0.0078125


def test_differences_are_held_once() -> None:
    learning, index = inputs()
    held: dict[int, int] = {}

    def hold(x: Tensor) -> Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x):
        loss, _ = interpolated_contrast(*learning, index, COUNTS, 0.9, 0.5)
    differences = B * K * D * 8
    assert [size for size in held.values() if size >= differences] == [differences]
    loss.sum().backward()


def test_divergence_of_relevances_and_its_gradients() -> None:
    random = torch.Generator().manual_seed(3)
    visual_text, text = (
        (5 * torch.rand(3, 3, generator=random, dtype=torch.float64)).requires_grad_() for _ in range(2)
    )
    counts = torch.tensor([[True] * 3, [True, False, True], [False, True, False]])
    for teach_texts in (False, True):
        found = relevance_divergence(visual_text, text, counts, teach_texts=teach_texts)
        own = [[k for k in range(3) if counts[b, k]] for b in range(3)]
        expected = torch.stack(
            [
                rc3_reference.divergence([visual_text[b, k] for k in own[b]], [text[b, k] for k in own[b]])
                for b in range(3)
            ]
        )
        torch.testing.assert_close(found, expected, **EXACT)
        weight = torch.tensor([1.0, 2, 3]).double()
        learning = (visual_text, text) if teach_texts else (visual_text,)
        ours = torch.autograd.grad((weight * found).sum(), (visual_text, text), allow_unused=True)
        theirs = torch.autograd.grad((weight * expected).sum(), learning)
        for mine, other in zip(ours, theirs, strict=False):
            torch.testing.assert_close(mine, other, **EXACT)
        assert teach_texts or ours[1] is None, "the texts say how near the others are to be"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_divergence_of_no_text_of_one_and_of_distant_ones_is_finite(dtype: torch.dtype) -> None:
    visual_text = torch.tensor([[1.0, 2, 3], [1, 2, 3], [0, 300, 600], [0, 0, 0]], dtype=dtype, requires_grad=True)
    text = torch.tensor([[3.0, 2, 1], [3, 2, 1], [600, 300, 0], [0, 0, 0]], dtype=dtype, requires_grad=True)
    counts = torch.tensor([[False] * 3, [True, False, False], [True] * 3, [True] * 3])
    found = relevance_divergence(visual_text, text, counts, teach_texts=True)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0, 0, 600, 0])
    found.sum().backward()
    for x in (visual_text, text):
        assert x.grad is not None
        assert bool(x.grad.isfinite().all())
        assert not x.grad[:2].any()


@QUICK
@given(st.lists(st.floats(0, 1), max_size=17), st.integers(1, 6))
def test_mean_of_the_last_steps(values: list[float], steps: int) -> None:
    running = RunningMean(steps)
    for value in values:
        running.add(value)
    last = values[-steps:]
    assert running.mean().item() == pytest.approx(math.fsum(last) / len(last) if last else 0.0, rel=1e-12, abs=1e-15)


def test_a_mean_goes_on_from_its_buffers() -> None:
    running, resumed = RunningMean(3), RunningMean(3)
    for value in (0.5, 0.25, 1.0, 0.125):
        running.add(value)
    shapes = {name: value.shape for name, value in resumed.state_dict().items()}
    assert shapes == {name: value.shape for name, value in running.state_dict().items()}
    resumed.load_state_dict(running.state_dict())
    for mean in (running, resumed):
        mean.add(0.75)
        assert mean.mean().item() == (1.0 + 0.125 + 0.75) / 3
