"""The losses, Eqs. 2, 4, 5, 7, 8 and 9, against the paper's loops, and the properties their masks must have."""

import math

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.losses.contrast import Candidates, contrast, contrast_anchors, target_oriented_contrast
from models.losses.distillation import alpha, distillation_distance
from models.losses.linear_cross_entropy import linear_cross_entropy

QUICK = settings(max_examples=40, deadline=None)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("slice_tokens", [1, 4, 7, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_sliced_cross_entropy_and_its_gradients(slice_tokens: int | None, smoothing: float) -> None:
    inputs = [
        random(7, 5).requires_grad_(),
        random(11, 5, seed=1).requires_grad_(),
        random(11, seed=2).requires_grad_(),
    ]
    target = torch.tensor([0, 3, 10, 3, 7, 1, 1])
    total, nll = linear_cross_entropy(*inputs, target, smoothing, slice_tokens)
    logits = inputs[0] @ inputs[1].T + inputs[2]
    theirs = reference.cross_entropy(logits, target, smoothing).sum()
    torch.testing.assert_close(total, theirs)
    torch.testing.assert_close(nll, reference.cross_entropy(logits, target, 0.0).detach())
    assert not nll.requires_grad
    expected = torch.autograd.grad(3 * theirs, inputs)
    for a, b in zip(torch.autograd.grad(3 * total, inputs), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("slice_tokens", [2, None])
def test_sliced_cross_entropy_of_weighted_tokens(slice_tokens: int | None) -> None:
    """A token of weight 3 stands for three, one of weight 0 for none; the nll is each one's own."""
    inputs = [
        random(4, 5).requires_grad_(),
        random(11, 5, seed=1).requires_grad_(),
        random(11, seed=2).requires_grad_(),
    ]
    target, weight = torch.tensor([0, 3, 10, 3]), torch.tensor([1.0, 3.0, 0.0, 2.0])
    total, nll = linear_cross_entropy(*inputs, target, 0.1, slice_tokens, weight_T=weight)
    logits = inputs[0] @ inputs[1].T + inputs[2]
    loss, plain_nll = (reference.cross_entropy(logits, target, smoothing) for smoothing in (0.1, 0.0))
    torch.testing.assert_close(nll, plain_nll.detach())
    expected = (loss * weight).sum()
    torch.testing.assert_close(total, expected)
    for a, b in zip(torch.autograd.grad(total, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_sliced_cross_entropy_of_extreme_logits() -> None:
    """The sum of exponentials is that of the highest logit, wherever the target lies."""
    hidden, weight = torch.ones(2, 1).double(), torch.tensor([[3000.0], [-3000.0], [2999.0]]).double()
    inputs = [hidden.requires_grad_(), weight.requires_grad_(), torch.zeros(3).double().requires_grad_()]
    target = torch.tensor([1, 0])
    total, nll = linear_cross_entropy(*inputs, target, 0.1)
    logits = hidden @ weight.T
    loss, plain_nll = (F.cross_entropy(logits, target, reduction="none", label_smoothing=x) for x in (0.1, 0.0))
    torch.testing.assert_close(nll, plain_nll.detach())
    torch.testing.assert_close(total, loss.sum())
    for a, b in zip(torch.autograd.grad(total, inputs), torch.autograd.grad(loss.sum(), inputs[:2]), strict=False):
        torch.testing.assert_close(a, b)


def test_sliced_cross_entropy_of_bfloat16_is_widened() -> None:
    hidden, weight = random(2, 5).bfloat16(), random(11, 5, seed=1).bfloat16()
    total, nll = linear_cross_entropy(hidden, weight, torch.zeros(11).bfloat16(), torch.tensor([1, 2]), 0.1)
    assert total.dtype == nll.dtype == torch.float32


def test_sliced_cross_entropy_of_no_token_and_without_gradients() -> None:
    hidden, weight, bias = random(0, 5).requires_grad_(), random(11, 5).requires_grad_(), random(11).requires_grad_()
    total, nll = linear_cross_entropy(hidden, weight, bias, torch.zeros(0, dtype=torch.int64), 0.1)
    total.backward()
    assert total.item() == 0
    assert nll.shape == (0,)
    assert weight.grad is not None
    assert not weight.grad.any()
    with torch.no_grad():
        total, _ = linear_cross_entropy(random(2, 5), weight, bias, torch.tensor([1, 2]), 0.1)
    assert not total.requires_grad


@pytest.mark.parametrize("slice_tokens", [3, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_sliced_cross_entropy_in_bfloat16_is_as_near_as_its_roundings(
    smoothing: float, slice_tokens: int | None
) -> None:
    """Every number, against float64 at the same rounded inputs, to first order in u = 2^-8.

    A logit z is rounded as a product and when the bias is added: off by u (|h w| + |z|). With q the smoothed target, p
    the softmax and all after the logits in float32, a loss lse - sum q z is off by sum |p - q| times that (the nll
    with the plain target for q). The logits' gradient p - q is off by p times that and p times its mean under p, and
    rounded once as a factor of the products. Hidden states and weight have those products as gradients, summed in
    float32 over words or tokens, but the weight's rounded slice by slice; the bias the sum of p - q. All three are
    rounded once more in the end, and once when multiplied by what arrives in backward.
    """
    u, words, factor = 2.0**-8, 30, 3.0
    inputs = [random(40, 8), random(words, 8, seed=1).mul(8**-0.5), random(words, seed=2).mul(0.5)]
    low = [x.bfloat16().requires_grad_() for x in inputs]
    hidden, weight, bias = high = [x.detach().double().requires_grad_() for x in low]
    target = torch.arange(40) % words
    total, nll = linear_cross_entropy(*low, target, smoothing, slice_tokens)
    assert total.dtype == nll.dtype == torch.float32
    logits = hidden @ weight.T + bias
    exact_total = reference.cross_entropy(logits, target, smoothing).sum()
    exact_nll = reference.cross_entropy(logits, target, 0.0).detach()

    z, product = logits.detach(), (logits - bias).detach()
    plain = torch.nn.functional.one_hot(target, words).double()
    p, q = reference.softmax(z), (1 - smoothing) * plain + smoothing / words
    off_logit = u * (product.abs() + z.abs())
    second_order = math.exp(2 * off_logit.max())
    in_float32 = 1e-6
    off_total = second_order * ((p - q).abs() * off_logit).sum() + in_float32 * exact_total.detach()
    off_nll = second_order * ((p - plain).abs() * off_logit).sum(dim=1) + in_float32 * exact_nll
    assert (total - exact_total).abs() <= off_total
    assert ((nll - exact_nll).abs() <= off_nll).all()

    off_p = second_order * p * (off_logit + (p * off_logit).sum(dim=1, keepdim=True)) + in_float32
    off_factor = off_p + u * (p - q).abs()
    slices = [(p - q)[part].T @ hidden.detach()[part] for part in torch.arange(40).split(slice_tokens or 40)]
    bounds = [
        off_factor @ weight.detach().abs(),
        off_factor.T @ hidden.detach().abs() + u * sum(part.abs() for part in slices),
        off_p.sum(dim=0),
    ]
    gradients = torch.autograd.grad(factor * total, low)
    for ours, exact, bound in zip(gradients, torch.autograd.grad(factor * exact_total, high), bounds, strict=True):
        assert ours.dtype == torch.bfloat16
        allowed = factor * bound + 2 * u * exact.abs()
        assert ((ours - exact).abs() <= 1.01 * allowed).all()
        # Roundings are random, so most of what they could do together they do not; what is wrong throughout does.
        assert (ours - exact).norm() < 0.4 * allowed.norm()
        assert allowed.norm() < 0.2 * exact.norm()


@pytest.mark.parametrize("kind", ["cosine", "mse", "kl"])
def test_distance(kind: str) -> None:
    teaching, learning = random(5, 8), random(5, 8, seed=1).requires_grad_()
    ours = distillation_distance(teaching, learning, kind)
    theirs = reference.distance(teaching, learning, kind)
    torch.testing.assert_close(ours, theirs)
    (our_grad,) = torch.autograd.grad(ours.sum(), learning)
    (their_grad,) = torch.autograd.grad(theirs.sum(), learning)
    torch.testing.assert_close(our_grad, their_grad)
    same = distillation_distance(teaching, teaching.clone(), kind)
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-12, rtol=0)


def test_distance_insists_on_a_detached_teacher() -> None:
    with pytest.raises(AssertionError, match="detach"):
        distillation_distance(random(2, 3).requires_grad_(), random(2, 3), "cosine")


@given(step=st.integers(0, 20_000), t1=st.integers(1, 10_000))
def test_alpha(step: int, t1: int) -> None:
    assert alpha(step, t1) == reference.alpha(step, t1)
    assert 0.5 <= alpha(step, t1) <= 1


def test_alpha_at_the_papers_t1() -> None:
    assert [alpha(t, 5000) for t in (0, 1000, 2500, 5000, 10000)] == [1.0, 0.8, 0.5, 0.5, 0.5]


@st.composite
def contrast_rows(draw) -> dict:
    n = draw(st.integers(1, 7))

    def column(of):
        return draw(st.lists(of, min_size=n, max_size=n))

    return {
        "images": column(st.booleans()),
        "weight": column(st.sampled_from([0.0, 1.0])),
        "group": column(st.integers(0, 1)),
        "story": column(st.integers(0, 3)),
        "seed": draw(st.integers(0, 1000)),
    }


def run_contrast(
    rows: dict, vision: Tensor, summary: Tensor, tau: float = 0.1, negatives: str = "group"
) -> tuple[Tensor, Tensor]:
    weight = torch.tensor(rows["weight"])
    anchor = contrast_anchors(torch.tensor(rows["images"])[:, None], weight)
    group, story = torch.tensor(rows["group"]), torch.tensor(rows["story"])
    return target_oriented_contrast(vision, summary, anchor, weight, group, story, tau, negatives), anchor


@QUICK
@given(rows=contrast_rows(), tau=st.sampled_from([0.05, 0.1, 1.0]), negatives=st.sampled_from(["group", "global"]))
def test_contrast_equals_the_papers_sum(rows: dict, tau: float, negatives: str) -> None:
    n, seed = len(rows["images"]), rows["seed"]
    vision, summary = random(n, 6, seed=seed).requires_grad_(), random(n, 6, seed=seed + 1).requires_grad_()
    ours, anchor = run_contrast(rows, vision, summary, tau, negatives)
    seen = [v if image else None for v, image in zip(vision, rows["images"], strict=True)]
    groups = rows["group"] if negatives == "group" else [0] * n
    losses = reference.contrast(seen, list(summary), rows["weight"], groups, rows["story"], tau)
    assert anchor.tolist() == [loss is not None for loss in losses]
    theirs = torch.stack([torch.zeros((), dtype=torch.float64) if x is None else x for x in losses])
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    if any(loss is not None for loss in losses):
        our_grads = torch.autograd.grad(ours.sum(), (vision, summary))
        their_grads = torch.autograd.grad(theirs.sum(), (vision, summary), allow_unused=True)
        for a, b in zip(our_grads, their_grads, strict=True):
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-7, atol=1e-9)


@QUICK
@given(rows=contrast_rows(), data=st.data())
def test_contrast_of_some_rows_against_candidates_of_more(rows: dict, data) -> None:
    """As on one rank of several: a slice of the rows are anchors, and all summaries have a gradient."""
    n, seed = len(rows["images"]), rows["seed"]
    begin = data.draw(st.integers(0, n - 1))
    part = slice(begin, data.draw(st.integers(begin + 1, n)))
    vision, summary = random(n, 6, seed=seed).requires_grad_(), random(n, 6, seed=seed + 1).requires_grad_()
    whole, anchor = run_contrast(rows, vision, summary)
    group, story = torch.tensor(rows["group"]), torch.tensor(rows["story"])
    candidates = Candidates(
        summary_ND=summary,
        weight_N=torch.tensor(rows["weight"]),
        group_N=group,
        story_N=story,
        own_B=torch.arange(n)[part],
    )
    ours = contrast(vision[part], anchor[part], group[part], story[part], candidates, 0.1)
    torch.testing.assert_close(ours, whole[part])
    expected = torch.autograd.grad(whole[part].sum(), (vision, summary))
    for a, b in zip(torch.autograd.grad(ours.sum(), (vision, summary)), expected, strict=True):
        torch.testing.assert_close(a, b)


@QUICK
@given(rows=contrast_rows(), data=st.data())
def test_contrast_ignores_what_it_must(rows: dict, data) -> None:
    """Placeholders, other groups and the same story are no negatives; order does not matter."""
    n, seed = len(rows["images"]), rows["seed"]
    vision, summary = random(n, 6, seed=seed), random(n, 6, seed=seed + 1)
    ours, _ = run_contrast(rows, vision, summary)
    b = data.draw(st.integers(0, n - 1))
    changed = summary.clone()
    changed[b] = random(6, seed=seed + 2)
    after, _ = run_contrast(rows, vision, changed)
    for i in range(n):
        negative = rows["weight"][b] and rows["group"][i] == rows["group"][b] and rows["story"][i] != rows["story"][b]
        if i != b and not negative:
            assert ours[i] == after[i]
    order = data.draw(st.permutations(range(n)))
    shuffled = {k: v if k == "seed" else [v[i] for i in order] for k, v in rows.items()}
    permuted, _ = run_contrast(shuffled, vision[list(order)], summary[list(order)])
    torch.testing.assert_close(permuted, ours[list(order)])


@QUICK
@given(rows=contrast_rows())
def test_contrast_is_bounded_and_zero_without_negatives(rows: dict) -> None:
    n = len(rows["images"])
    ours, _ = run_contrast(rows, random(n, 6, seed=rows["seed"]), random(n, 6, seed=rows["seed"] + 1))
    assert (ours >= 0).all()
    assert (ours <= 2 / 0.1 + math.log(n) + 1e-9).all()
    alone = {**rows, "story": [0] * n}
    assert not run_contrast(alone, random(n, 6), random(n, 6, seed=1))[0].any()


def test_contrast_direction_is_image_to_summary() -> None:
    """Two images close to one summary: image -> summary punishes it, summary -> image would differ."""
    rows = {"images": [True, True], "weight": [1.0, 1.0], "group": [0, 0], "story": [0, 1]}
    vision, summary = random(2, 6), random(2, 6, seed=1)
    forward, _ = run_contrast(rows, vision, summary)
    backward, _ = run_contrast(rows, summary, vision)
    assert not torch.allclose(forward, backward)
