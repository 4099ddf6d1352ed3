"""Decoding through transformers' own loop, with a start token a row."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.arrangement import arrange
from models.network import Network
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.schema import Batch


@pytest.fixture(params=[2, 3], ids=["as deep as the encoder", "deeper"])
def network(request: pytest.FixtureRequest) -> Network:
    """The decoder's depth is a parameter: transformers sizes its cache by the encoder's."""
    torch.manual_seed(1)
    config = tiny_config()
    text = config.text.model_copy(update={"num_decoder_layers": request.param})
    network = Network(config.model_copy(update={"text": text}), 50, PAD_ID, EOS_ID).eval()
    with torch.no_grad():
        network.backbone.head.bias[EOS_ID] = 1.0  # so that some rows end before the limit
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return network


def greedy(network: Network, batch: Batch, length: int) -> Tensor:
    rows = []
    for b in range(len(batch)):
        one = Batch(**{f.name: getattr(batch, f.name)[b : b + 1] for f in dataclasses.fields(batch)})
        words: list[int] = []
        while len(words) < length and (not words or words[-1] != EOS_ID):
            ids = torch.tensor([[*words, PAD_ID]])
            one = dataclasses.replace(one, summary_ids_BN=ids, summary_mask_BN=torch.ones_like(ids, dtype=torch.bool))
            arranged = network.place(arrange(one, teacher_rows=None, student_rows=[0]))
            hidden = network.decode(network.memory(one, arranged), arranged)
            words.append(int(network.logits(hidden[-1]).argmax()))
        rows.append(words + [PAD_ID] * (length - len(words)))
    return torch.tensor(rows)


@torch.no_grad()
def test_greedy_equals_a_loop_by_hand(network: Network) -> None:
    batch = random_batch(rows=6)
    assert len(batch.start_B.unique()) == 6
    ours = network.generate(batch, num_beams=1, max_new_tokens=8)
    expected = greedy(network, batch, 8)
    assert torch.equal(ours, expected[:, : ours.shape[1]])
    assert (expected[:, ours.shape[1] :] == PAD_ID).all()


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_row_does_not_depend_on_its_neighbours(network: Network, num_beams: int) -> None:
    """Nor on their start tokens: one shared start token would give another language's summary."""
    batch = random_batch(rows=5)
    together = network.generate(batch, num_beams=num_beams, max_new_tokens=8)
    for b in range(5):
        one = Batch(**{f.name: getattr(batch, f.name)[b : b + 1] for f in dataclasses.fields(batch)})
        alone = network.generate(one, num_beams=num_beams, max_new_tokens=8)[0]
        length = min(len(alone), together.shape[1])
        assert torch.equal(together[b, :length], alone[:length])
    moved = network.generate(dataclasses.replace(batch, start_B=batch.start_B.flip(0)), num_beams, max_new_tokens=8)
    assert moved.shape != together.shape or not torch.equal(moved, together)


def test_beams_find_likelier_summaries(network: Network) -> None:
    batch = random_batch(rows=8, seed=2)

    def score(ids: Tensor) -> float:
        mask = (ids == EOS_ID).cumsum(dim=1) - (ids == EOS_ID).long() == 0
        scored = dataclasses.replace(batch, summary_ids_BN=ids, summary_mask_BN=mask)
        with torch.no_grad():
            nll, _ = network.row_nll(scored)
        return float(nll.sum())

    lengths = {"length_penalty": 0.0, "max_new_tokens": 6}
    scores = [score(network.generate(batch, num_beams=n, **lengths)) for n in (1, 8)]
    assert all(wide < narrow for narrow, wide in pairwise(scores))


def test_generation_leaves_the_network_as_it_was(network: Network) -> None:
    before = {name: parameter.clone() for name, parameter in network.state_dict().items()}
    network.generate(random_batch(), max_new_tokens=3)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_generation_under_dropout_is_our_mistake(network: Network) -> None:
    with pytest.raises(AssertionError, match="eval"):
        network.train().generate(random_batch())
