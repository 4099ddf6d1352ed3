"""Decoding through transformers' own loop, with a start token a row."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.arrangement import Arrangement
from models.config import Decoding
from models.decoding import logits_processors
from models.network import Network
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.batch.types import Batch
from tests.support.batches import take_rows


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
        one = take_rows(batch, slice(b, b + 1))
        words: list[int] = []
        while len(words) < length and (not words or words[-1] != EOS_ID):
            ids = torch.tensor([[*words, PAD_ID]])
            one = dataclasses.replace(one, summary_ids_BN=ids, summary_mask_BN=torch.ones_like(ids, dtype=torch.bool))
            arrangement = Arrangement(one)
            arrangement.decode("greedy", "source", [0])
            hidden = network.states(one, network.place(arrangement.arranged())).hidden_TD
            words.append(int(network.logits(hidden[-1]).argmax()))
        rows.append(words + [PAD_ID] * (length - len(words)))
    return torch.tensor(rows)


@torch.no_grad()
def test_greedy_equals_a_loop_by_hand(network: Network) -> None:
    batch = random_batch(rows=6)
    assert len(batch.start_B.unique()) == 6
    ours = network.generate(batch, Decoding(num_beams=1, max_new_tokens=8))
    expected = greedy(network, batch, 8)
    assert torch.equal(ours, expected[:, : ours.shape[1]])
    assert (expected[:, ours.shape[1] :] == PAD_ID).all()


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_row_does_not_depend_on_its_neighbours(network: Network, num_beams: int) -> None:
    """Nor on their start tokens: one shared start token would give another language's summary."""
    batch = random_batch(rows=5)
    together = network.generate(batch, Decoding(num_beams=num_beams, max_new_tokens=8))
    for b in range(5):
        one = take_rows(batch, slice(b, b + 1))
        alone = network.generate(one, Decoding(num_beams=num_beams, max_new_tokens=8))[0]
        length = min(len(alone), together.shape[1])
        assert torch.equal(together[b, :length], alone[:length])
    moved = network.generate(
        dataclasses.replace(batch, start_B=batch.start_B.flip(0)), Decoding(num_beams=num_beams, max_new_tokens=8)
    )
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
    scores = [score(network.generate(batch, Decoding(num_beams=n, **lengths))) for n in (1, 8)]
    assert all(wide < narrow for narrow, wide in pairwise(scores))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_no_tokens_come_twice_in_one_order(network: Network, num_beams: int) -> None:
    """And without the limit they do: a network of random weights repeats itself."""

    def repeats(size: int) -> int:
        decoding = Decoding(num_beams=num_beams, max_new_tokens=12, no_repeat_ngram_size=size)
        rows = [[word for word in row if word != PAD_ID] for row in network.generate(random_batch(), decoding).tolist()]
        pairs = [list(pairwise(row)) for row in rows]
        return sum(len(of_row) - len(set(of_row)) for of_row in pairs)

    assert repeats(0) > 0
    assert repeats(2) == 0


def test_generation_leaves_the_network_as_it_was(network: Network) -> None:
    before = {name: parameter.clone() for name, parameter in network.state_dict().items()}
    network.generate(random_batch(), Decoding(max_new_tokens=3))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_generation_under_dropout_is_our_mistake(network: Network) -> None:
    with pytest.raises(AssertionError, match="eval"):
        network.train().generate(random_batch(), Decoding())


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_document_in_several_languages_is_encoded_once_and_written_as_on_its_own(
    network: Network, num_beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 0, 2 and 3 read one document with one image sequence, row 1 the same document with others."""
    decoding = Decoding(num_beams=num_beams, max_new_tokens=8)
    batch = random_batch(rows=5)
    same = take_rows(batch, [0, 0, 0, 0, 4])
    batch = dataclasses.replace(
        same,
        start_B=batch.start_B,
        target_language_B=torch.arange(5),
        roi_BIRV=torch.stack([same.roi_BIRV[0], batch.roi_BIRV[1], *same.roi_BIRV[2:]]),
        images_B=torch.tensor([7, 8, 7, 7, 9]),
    )
    assert batch.image_mask_BI[:2].any(dim=1).all()
    encoded: list[int] = []
    encode = Network.encode
    monkeypatch.setattr(Network, "encode", lambda self, a: (encoded.append(a.document_tokens), encode(self, a))[1])
    together = network.generate(batch, decoding)
    assert encoded == [int(batch.source_mask_BM[0].sum() + batch.source_mask_BM[4].sum())]
    written = set()
    for row in range(5):
        alone = network.generate(take_rows(batch, [row]), decoding)[0]
        length = min(len(alone), together.shape[1])
        assert torch.equal(together[row, :length], alone[:length])
        assert (together[row, length:] == PAD_ID).all()
        written.add(tuple(alone.tolist()))
    assert len(written) == 5  # languages and images do make a difference


def test_a_placeholder_is_padding_and_spoils_nobody(network: Network) -> None:
    """Also where it names the article of a row that could be read."""
    batch = take_rows(random_batch(rows=4), [0, 0, 1, 2])
    batch = dataclasses.replace(
        batch, source_mask_BM=batch.source_mask_BM.clone(), weight_B=torch.tensor([0.0, 1, 1, 0])
    )
    batch.source_mask_BM[0] = False
    decoding = Decoding(num_beams=2, max_new_tokens=6)
    found = network.generate(batch, decoding)
    expected = network.generate(take_rows(batch, [1, 2]), decoding)
    assert torch.equal(found[1:3], expected)
    assert (found[[0, 3]] == PAD_ID).all()
    nothing = network.generate(dataclasses.replace(batch, weight_B=torch.zeros(4)), decoding)
    assert nothing.shape == (4, 1)
    assert (nothing == PAD_ID).all()


def test_what_is_drawn_depends_on_the_example_alone(network: Network) -> None:
    batch = random_batch(rows=5)
    decoding = Decoding(num_beams=1, max_new_tokens=8, temperature=1.0, seed=3)
    together = network.generate(batch, decoding, numbers=[10, 11, 12, 13, 14])
    for row in (0, 3):
        alone = network.generate(take_rows(batch, [row]), decoding, numbers=[10 + row])[0]
        length = min(len(alone), together.shape[1])
        assert torch.equal(together[row, :length], alone[:length])
    assert not same_text(network.generate(batch, decoding, numbers=[20, 21, 22, 23, 24]), together)
    other = decoding.model_copy(update={"seed": 4})
    assert not same_text(network.generate(batch, other, numbers=[10, 11, 12, 13, 14]), together)
    cold = decoding.model_copy(update={"temperature": 1e-4})
    greedy = Decoding(num_beams=1, max_new_tokens=8)
    assert same_text(network.generate(batch, cold), network.generate(batch, greedy))


def same_text(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def test_words_are_drawn_as_often_as_their_probability_says() -> None:
    """Chi-square over 20,000 draws of 6 words at temperature 2, the two unlikeliest cut off by top_p."""
    logits = torch.tensor([2.0, 1.5, 1.0, 0.5, -3.0, -4.0])
    probability = torch.softmax(logits / 2, 0)
    kept = probability[:4] / probability[:4].sum()
    draws = 20_000
    processors = logits_processors(Decoding(num_beams=1, temperature=2.0, top_p=0.93), range(draws))
    scores = processors(torch.zeros(draws, 1, dtype=torch.int64), logits.expand(draws, -1))
    counts = torch.bincount(scores.argmax(dim=1), minlength=6).double()
    assert counts[4:].sum() == 0
    expected = kept.double() * draws
    assert float(((counts[:4] - expected) ** 2 / expected).sum()) < 16.3  # 3 degrees of freedom, 0.1%


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"temperature": 0.7}, "set num_beams to 1"),
        ({"num_beams": 1, "top_p": 0.5}, "set temperature"),
        ({"num_beams": 0}, "greater than 0"),
        ({"num_beams": 1, "temperature": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_together(settings: dict[str, float], fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        Decoding.model_validate(settings)
