"""The plain step that benchmarks/step.py compares ours with computes the same J and the same gradients."""

import dataclasses

import pytest
import torch

from benchmarks.plain_d2tv import PlainD2TV, their_name
from models.network import Network
from models.objectives.d2tv import D2TV, D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, same_target, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of

WORDS = 50


def mixed_batch() -> Batch:
    """Two groups, two sources of one target article, a monolingual row without images, and a placeholder."""
    batch = random_batch(rows=6, groups=2, vocab_size=WORDS, seed=3)
    weight_B, source_language_B = batch.weight_B.clone(), batch.source_language_B.clone()
    weight_B[4], source_language_B[1] = 0, 2
    assert not batch.cross_B.all()
    assert not batch.image_mask_BI.any(dim=1).all()
    return dataclasses.replace(same_target(batch, 0, 1), weight_B=weight_B, source_language_B=source_language_B)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("hidden_size", [None, 8])
@pytest.mark.parametrize("full", [False, True])
def test_loss_and_gradients_equal_ours(dtype: torch.dtype, hidden_size: int | None, full: bool) -> None:
    torch.manual_seed(0)
    config = tiny_config(hidden_size=hidden_size)
    settings = D2TVConfig(alpha_steps=100, beta=0.7, temperature=0.5)
    ours = D2TV(settings, Network(config, WORDS, PAD_ID, EOS_ID))
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # so that no path starts at zero
    plain = PlainD2TV(config, WORDS, pad_id=PAD_ID, document=12, summary=7, alpha_steps=100, beta=0.7, temperature=0.5)
    plain.load_parameters(dict(ours.named_parameters()))
    ours, plain = ours.to(dtype), plain.to(dtype)
    batch = random_batch(rows=4, groups=2, vocab_size=WORDS, full=True) if full else mixed_batch()

    terms = outputs_of(ours, batch, 20).terms.values()
    loss = torch.stack([term.weight * term.sum / term.count for term in terms]).sum()
    their_loss = plain(batch, 20)
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-5)
    loss.backward()
    their_loss.backward()
    bound = 1e-5 if dtype == torch.float64 else 2e-5  # sums in another order, on processors of another width
    gradient = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert gradient.keys() == {their_name(name) for name, _ in plain.named_parameters()}
    for name, parameter in plain.named_parameters():
        difference = gradient[their_name(name)] - parameter.grad
        # By norm: an element that cancels to almost nothing keeps the rounding errors of its summands.
        assert difference.norm() <= bound * parameter.grad.norm(), name
