"""Attention on packed rows against one text at a time, and its own CPU path against torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import models.attention
from models.attention import attend
from models.ragged import Layout, averaging, cross_layout, self_layout

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def plain(query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float, bias: Tensor | None, causal: bool):
    """One text's queries on one text's keys, all scores in float64."""
    parts = []
    for head, (q, k, v) in enumerate(zip(*(x.chunk(heads, dim=1) for x in (query, key, value)), strict=True)):
        scores = scale * q @ k.T
        if bias is not None:
            scores = scores + bias[head, : len(q), : len(k)]
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        parts.append(scores.softmax(dim=-1) @ v)
    return torch.cat(parts, dim=1)


def stream(tokens: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, 6, dtype=torch.float64, generator=random).requires_grad_()


def distance_bias(length: int, heads: int = 2) -> tuple[Tensor, Tensor]:
    """Table and bias, which depends on distance only, as T5's does: a packed text sees the bias of a text alone."""
    table = torch.randn(heads, 2 * length - 1, dtype=torch.float64, requires_grad=True)
    places = torch.arange(length)
    return table, table[:, places - places[:, None] + length - 1]


@settings(max_examples=40, deadline=None)
@given(
    lengths=LENGTHS,
    causal=st.booleans(),
    biased=st.booleans(),
    elsewhere=st.booleans(),
    piece=st.sampled_from([1, 600, 2**21]),
)
def test_packed_rows_equal_one_text_at_a_time(
    lengths: list[int], causal: bool, biased: bool, elsewhere: bool, piece: int
) -> None:
    """elsewhere: bias and mask in one, through torch's attention, as on other devices than the CPU."""
    layout = self_layout(lengths, causal=causal).to(CPU, torch.float64)
    q, k, v = (stream(sum(lengths), seed) for seed in range(3))
    length = layout.queries.length
    assert length % 8 == 0
    assert max(lengths) <= length <= 2 * (max(lengths) + 7)
    table, bias = distance_bias(length) if biased else (None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.attention, "_PIECE", piece)  # rows and heads in pieces of every size
        added = models.attention._with_mask(bias, layout.mask_P1QK) if bias is not None and elsewhere else bias
        ours = attend(q, k, v, layout, heads=2, scale=0.7, bias=added)
        texts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
        theirs = torch.cat([plain(*text, 2, 0.7, bias, causal) for text in texts])
        torch.testing.assert_close(ours, theirs)
        weight = torch.randn_like(ours)
        wrt = [q, k, v] + ([table] if table is not None else [])
        grads = torch.autograd.grad((ours * weight).sum(), wrt, retain_graph=True)
    for a, b in zip(grads, torch.autograd.grad((theirs * weight).sum(), wrt), strict=True):
        torch.testing.assert_close(a, b)


@settings(max_examples=40, deadline=None)
@given(keys=LENGTHS, data=st.data())
def test_texts_read_other_texts(keys: list[int], data: st.DataObject) -> None:
    """Several may read one, one may read nothing and gets zeros."""
    queries = data.draw(LENGTHS)
    key_of = [data.draw(st.integers(-1, len(keys) - 1)) for _ in queries]
    key_of[0] = max(0, key_of[0])
    layout = cross_layout(queries, key_of, keys).to(CPU, torch.float64)
    q, k, v = stream(sum(queries), 0), stream(sum(keys), 1), stream(sum(keys), 2)
    ours = attend(q, k, v, layout, heads=3, scale=0.5)
    theirs = torch.cat(
        [
            plain(text, k.split(keys)[owner], v.split(keys)[owner], 3, 0.5, None, False)
            if owner >= 0
            else torch.zeros_like(text)
            for text, owner in zip(q.split(queries), key_of, strict=True)
        ]
    )
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    grads = torch.autograd.grad((ours * weight).sum(), [q, k, v])
    for a, b in zip(grads, torch.autograd.grad((theirs * weight).sum(), [q, k, v]), strict=True):
        torch.testing.assert_close(a, b)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_rows_are_filled(lengths: list[int]) -> None:
    """First fit by decreasing length: at most one row is less than half full, and no place is taken twice."""
    rows = self_layout(lengths, causal=False).queries
    places = rows.place_T
    assert len(places.unique()) == len(places) == sum(lengths)
    filled = torch.bincount(places // rows.length, minlength=rows.rows)
    assert (filled * 2 <= rows.length).sum() <= 1
    x = torch.arange(float(sum(lengths)))[:, None]
    assert torch.equal(rows.unpad(rows.pad(x)), x)


def test_positions_count_inside_each_text() -> None:
    layout = self_layout([2, 3, 1], causal=True)
    assert layout.position_T is not None
    assert layout.position_T.tolist() == [0, 1, 0, 1, 2, 0]


def test_sums_of_texts() -> None:
    assert torch.equal(averaging([2, 1]), torch.tensor([[1.0, 1, 0], [0, 0, 1]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean_and_drops_its_share(dtype: torch.dtype) -> None:
    """Values of one make every output the sum of the kept probabilities: 1 in the mean, spread as dropout spreads."""
    torch.manual_seed(0)
    layout = self_layout([64] * 64, causal=False).to(CPU, dtype)
    q, k = (torch.zeros(64 * 64, 8, dtype=dtype, requires_grad=True) for _ in range(2))
    v = torch.ones(64 * 64, 8, dtype=dtype)
    p = 0.25
    out = attend(q, k, v, layout, heads=2, scale=1.0, dropout=p).double()[:, [0, 7]]
    spread = (p / (1 - p) / 64) ** 0.5  # of the mean of 64 independent factors
    assert out.mean().item() == pytest.approx(1, abs=4 * spread / out.numel() ** 0.5 + (dtype == torch.bfloat16) * 2e-3)
    assert out.std().item() == pytest.approx(spread, rel=0.05)


def test_dropout_follows_torchs_seed_and_backward_uses_the_same_mask() -> None:
    layout = self_layout([5, 9, 3], causal=False).to(CPU, torch.float64)
    q, k, v = (stream(17, seed) for seed in range(3))

    def run(value: Tensor) -> Tensor:
        torch.manual_seed(7)
        return attend(q, k, value, layout, heads=2, scale=1.0, dropout=0.3)

    assert torch.equal(run(v), run(v))
    torch.manual_seed(8)
    assert not torch.equal(attend(q, k, v, layout, heads=2, scale=1.0, dropout=0.3), run(v))
    # With the mask fixed the output is linear in v, and a smooth function of q and k.
    assert torch.autograd.gradcheck(run, (v,))
    assert torch.autograd.gradcheck(
        lambda query, key: (torch.manual_seed(7), attend(query, key, v, layout, heads=2, scale=1.0, dropout=0.3))[1],
        (q, k),
    )


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_bfloat16_is_as_near_as_its_rounding(dropout: float) -> None:
    """Each score carries the rounding of its two factors, of the product, of bias and mask: within 2^-8 of its size
    each, so a probability is off by at most that much times the largest score, and an output by the sum of both
    kinds of error over its convex combination."""
    torch.manual_seed(0)
    lengths = [33, 20, 12, 7]
    exact = self_layout(lengths, causal=False).to(CPU, torch.float64)
    low = self_layout(lengths, causal=False).to(CPU, torch.bfloat16)
    inputs = [torch.randn(sum(lengths), 16) for _ in range(3)]
    bias = distance_bias(exact.queries.length)[1].detach()
    rounded = [x.bfloat16() for x in inputs]

    def run(layout: Layout, dtype: torch.dtype) -> Tensor:
        torch.manual_seed(1)
        given = [x.to(dtype).requires_grad_() for x in rounded]
        return attend(*given, layout, heads=2, scale=0.35, bias=bias.bfloat16().to(dtype), dropout=dropout)

    ours, theirs = run(low, torch.bfloat16).double(), run(exact, torch.float64)
    q, k, v = (x.double().unflatten(1, (2, 8)).transpose(0, 1) for x in rounded)
    largest = ((0.35 * q @ k.transpose(1, 2)).abs().max() + bias.abs().max()).item()
    unit = 2.0**-8
    # exp turns an absolute error of 3 units of the score into a relative one, twice (numerator and denominator);
    # the probability, its mask's factor and the result are each rounded once more.
    bound = (2 * 3 * unit * largest + 3 * unit) * v.abs().max().item() / (1 - dropout)
    assert (ours - theirs).abs().max() < bound
    assert (ours - theirs).abs().mean() < bound / 10


def bfloat16_bounds(
    query: Tensor, key: Tensor, value: Tensor, grad: Tensor, bias: Tensor, hidden: Tensor, scale: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of one head of one text in float64, and how far bfloat16 may be from them: see the test below."""
    u = 2.0**-8
    product = scale * query @ key.T
    score = (product + bias).masked_fill(hidden, -torch.inf)
    p = score.softmax(dim=1)
    out = p @ value
    towards = grad @ value.T  # the gradient of the probabilities
    mean = (p * towards).sum(dim=1, keepdim=True)
    error = p * (towards - mean)  # that of the scores
    exact = {
        "query": scale * error @ key,
        "key": scale * error.T @ query,
        "value": p.T @ grad,
        "bias": error,
    }
    off_score = u * (2 * product.abs() + (product + bias).abs())
    share = off_score + (p * off_score).sum(dim=1, keepdim=True) + u  # of p
    off_mean = (p * towards.abs() * (share + u)).sum(dim=1, keepdim=True) + u * (grad * out).abs().sum(1, keepdim=True)
    off_error = p * (share * (towards - mean).abs() + u * towards.abs() + off_mean) + u * error.abs()
    off_scaled = scale * (off_error + u * error.abs())
    off = {
        "query": off_scaled @ key.abs(),
        "key": off_scaled.T @ query.abs(),
        "value": (share * p).T @ grad.abs(),
        "bias": off_error,
    }
    second_order = 1 + 2 * share.max()
    return exact, {name: second_order * bound for name, bound in off.items()}


@pytest.mark.parametrize("biased", [True, False], ids=["learned bias", "torch's kernel"])
@pytest.mark.parametrize("causal", [False, True])
def test_bfloat16_gradients_are_as_near_as_their_roundings(causal: bool, biased: bool) -> None:
    """Every number of them, against float64 at the same rounded inputs, to first order in u = 2^-8.

    - A score is rounded as a product, when scaled and when the bias is added, each time by u of what it is then. A
      probability is off by that share of itself, by the mean of its row's for the sum it is divided by, and by u.
    - The probabilities' gradient is rounded once, by u. The scores' is p * (that - its mean under p): off by p's
      share, by u of the gradient, by what p and gradient do to the mean (or, where the mean is taken as grad * out, by
      u of out), and by u; scaled, by another u.
    - Those of query, key and value are products of these, and the bias' a sum over packed rows; all are summed in
      float32 and rounded once.

    Texts share rows, so a bias' gradient adds up over rows, and is nothing where one text would see another.
    """
    torch.manual_seed(0)
    lengths, scale, heads = [33, 20, 12, 7, 38, 30], 0.35, 2
    layout = self_layout(lengths, causal=causal).to(CPU, torch.bfloat16)
    rows, length = layout.queries.rows, layout.queries.length
    assert 1 < rows < len(lengths)
    given = {name: torch.randn(sum(lengths), 16).bfloat16().requires_grad_() for name in ("query", "key", "value")}
    grad = torch.randn(sum(lengths), 16).bfloat16()
    bias = torch.randn(heads, length, length).bfloat16().requires_grad_()
    out = attend(*given.values(), layout, heads=heads, scale=scale, bias=bias if biased else None)
    wrt = given | ({"bias": bias} if biased else {})
    ours = dict(zip(wrt, torch.autograd.grad(out, list(wrt.values()), grad), strict=True))

    exact, bound = ({name: torch.zeros(x.shape, dtype=torch.float64) for name, x in wrt.items()} for _ in range(2))
    begins = (layout.queries.place_T % length).split(lengths)
    for text, (tokens, size) in enumerate(zip(torch.arange(sum(lengths)).split(lengths), lengths, strict=True)):
        begin = int(begins[text][0])
        seen = slice(begin, begin + size)
        hidden = torch.ones(size, size).triu(1).bool() & causal
        for head in range(heads):
            columns = slice(8 * head, 8 * head + 8)
            parts = [x.detach()[tokens, columns].double() for x in (*given.values(), grad)]
            added = bias.detach()[head, seen, seen].double() if biased else torch.zeros(size, size).double()
            gradients, bounds = bfloat16_bounds(*parts, added, hidden, scale)
            for whole, part in ((exact, gradients), (bound, bounds)):
                for name in given:
                    whole[name][tokens, columns] = part[name]
                if biased:
                    whole["bias"][head, seen, seen] += part["bias"]
    for name, gradient in exact.items():
        allowed = bound[name] + 2.0**-8 * gradient.abs() + 1e-6 * gradient.abs().max() * (bound[name] > 0)
        assert ((ours[name].double() - gradient).abs() <= allowed).all(), name
        assert allowed.norm() < 0.4 * gradient.norm(), "a bound that a wrong factor would pass"
        # Roundings are random, so most of what they could do together they do not.
        assert (ours[name].double() - gradient).norm() < 0.3 * allowed.norm(), name
