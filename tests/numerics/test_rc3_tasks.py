"""Fine-tuning of RC³, translation and retrieval: terms and gradients against loops over rows, in float64."""

import dataclasses
from typing import Any

import pytest
import torch
from across_reference import states as late_states
from reference import cross_entropy, linear
from test_early_fusion import BACKBONES, Inputs, build
from test_ncls import SETUP
from test_objective import example_rows
from torch import Tensor

from models.config import Decoding
from models.network import Network, real_rows
from models.objectives.base import Objective
from models.objectives.rc3 import RC3
from models.objectives.rc3_config import RC3Config
from models.objectives.retrieval import Retrieval, pairs_of
from models.objectives.retrieval_config import RetrievalConfig
from models.objectives.translation import Translation
from models.objectives.translation_config import TranslationConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of


def assert_terms_and_gradients(objective: Objective, batch: Batch, expected: dict[str, tuple[Tensor, int]]) -> None:
    """Compare with sums and counts that share the objective's parameters. transformers' mT5 takes norms in float32."""
    loss = sum(total / count for total, count in expected.values())
    gradients = torch.autograd.grad(loss, list(objective.parameters()), allow_unused=True)
    outputs = outputs_of(objective, batch, 0)
    assert {name: term.count for name, term in outputs.terms.items()} == {
        n: count for n, (_, count) in expected.items()
    }
    for name, (total, _) in expected.items():
        torch.testing.assert_close(outputs.terms[name].sum.double(), total, rtol=1e-6, atol=1e-5)
    sum(term.weight * term.sum / term.count for term in outputs.terms.values()).backward()
    for (name, parameter), gradient in zip(objective.named_parameters(), gradients, strict=True):
        theirs = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def named_batch() -> Batch:
    """Six rows: one monolingual and without images, one a placeholder, one whose source has no name."""
    batch = random_batch(rows=6, groups=2, seed=3, source_summaries=True)
    weight_B, mask_BS = batch.weight_B.clone(), batch.source_summary_mask_BS.clone()
    weight_B[4] = 0
    mask_BS[5, 1:] = False
    mask_BS[[0, 1, 2, 3], :2] = True
    return dataclasses.replace(batch, weight_B=weight_B, source_summary_mask_BS=mask_BS)


def name_of(batch: Batch, row: int) -> Tensor:
    """The source's name behind its language's token."""
    ids = batch.source_summary_ids_BS[row][batch.source_summary_mask_BS[row]]
    return torch.cat((batch.source_start_B[row : row + 1], ids))


def smoothed(log_p_W: Tensor, word: int, smoothing: float) -> Tensor:
    return -(1 - smoothing) * log_p_W[word] - smoothing * log_p_W.mean()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_translation_reads_the_name_with_the_images(backbone: str) -> None:
    network, batch = build(backbone).eval(), named_batch()
    objective, inputs = Translation(TranslationConfig(label_smoothing=0.2), network).double(), Inputs(network, batch)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in (0, 1, 2, 3):
        target = batch.summary_ids_BN[row][batch.summary_mask_BN[row]].tolist()
        decoded: Any = network.backbone.model.decoder(
            input_ids=torch.tensor([[int(batch.start_B[row]), *target[:-1]]]),
            encoder_hidden_states=inputs.of(name_of(batch, row), image=row)[None],
            use_cache=False,
        )
        log_p_TW = network.logits(decoded.last_hidden_state[0]).log_softmax(dim=1)
        total = total + sum(smoothed(log_p_W, word, 0.2) for log_p_W, word in zip(log_p_TW, target, strict=True))
        count += len(target)
    assert_terms_and_gradients(objective, batch, {"mt": (total, count)})


def test_translation_on_a_network_of_late_fusion() -> None:
    torch.manual_seed(0)
    objective = Translation(TranslationConfig(), Network(tiny_config(), 50, PAD_ID, EOS_ID)).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch, values = named_batch(), []
    params = {name.removeprefix("network."): parameter for name, parameter in objective.named_parameters()}
    for b, row in enumerate(example_rows(batch)):
        if b in (0, 1, 2, 3):
            _, hidden = late_states(params, name_of(batch, b), row, SETUP)
            values += cross_entropy(linear(params, "backbone.head", hidden), row["summary"], 0.1)
    assert_terms_and_gradients(objective, batch, {"mt": (sum(values), len(values))})


def test_validation_and_generation_read_what_training_reads() -> None:
    network, batch = build("mt5").eval(), named_batch()
    batch = dataclasses.replace(batch, weight_B=batch.weight_B * (torch.arange(6) < 4))
    objective = Translation(TranslationConfig(label_smoothing=0.0), network).double()
    nll_B, tokens_B = network.row_nll(batch, objective.reads)
    outputs = outputs_of(objective, batch, 0)
    torch.testing.assert_close(nll_B, outputs.row_nll["mt"])
    torch.testing.assert_close(tokens_B, outputs.row_tokens["mt"])
    ids_BN = network.generate(batch, Decoding(num_beams=1, max_new_tokens=6), reads=objective.reads)
    inputs = Inputs(network, batch)
    for row in real_rows(batch):
        states, words = inputs.of(name_of(batch, row), image=row), [int(batch.start_B[row])]
        while len(words) < 7 and words[-1] != EOS_ID:
            decoded: Any = network.backbone.model.decoder(
                input_ids=torch.tensor([words]), encoder_hidden_states=states[None], use_cache=False
            )
            words.append(int(network.logits(decoded.last_hidden_state[0, -1]).argmax()))
        assert ids_BN[row][: len(words) - 1].tolist() == words[1:]


def grouped_batch() -> Batch:
    """Two groups of five rows: of the first one is a placeholder, one has no image, and two tell one story."""
    batch = random_batch(rows=10, groups=2, full=True, seed=5)
    weight_B, story_B, image_mask_BI = batch.weight_B.clone(), batch.story_B.clone(), batch.image_mask_BI.clone()
    weight_B[1], image_mask_BI[2], story_B[4] = 0, False, story_B[3]
    return dataclasses.replace(batch, weight_B=weight_B, story_B=story_B, image_mask_BI=image_mask_BI)


def retrieval_of(backbone: str) -> Retrieval:
    objective = Retrieval(RetrievalConfig(), build(backbone)).double().eval()
    with torch.no_grad():
        objective.match.weight.add_(torch.randn_like(objective.match.weight))
    return objective


def score_of(objective: Retrieval | RC3, inputs: Inputs, name: int, image: int) -> Tensor:
    batch = inputs._batch
    ids = batch.summary_ids_BN[name][batch.summary_mask_BN[name]]
    return objective.match(inputs.of(torch.cat((batch.start_B[name : name + 1], ids)), image=image)[0])[0]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_image_chooses_its_name_and_a_name_its_image(backbone: str) -> None:
    objective, batch = retrieval_of(backbone), grouped_batch()
    inputs, sums = Inputs(objective.network, batch), {"image_to_text": [], "text_to_image": []}
    assert pairs_of(batch).anchors == [0, 3, 4, 5, 6, 7, 8, 9]
    assert pairs_of(batch).count == 3 + 4 + 25
    for group in ([0, 3, 4], [5, 6, 7, 8, 9]):
        for own in group:
            others = [row for row in group if batch.story_B[row] != batch.story_B[own]]
            names = torch.stack([score_of(objective, inputs, name, own) for name in (own, *others)])
            images = torch.stack([score_of(objective, inputs, own, image) for image in (own, *others)])
            sums["image_to_text"].append(-torch.log(names[0].exp() / names.exp().sum()))
            sums["text_to_image"].append(-torch.log(images[0].exp() / images.exp().sum()))
    assert_terms_and_gradients(objective, batch, {name: (sum(values), 8) for name, values in sums.items()})


@pytest.mark.parametrize("kind", ["retrieval", "rc3"])
def test_scores_of_pairs_are_those_of_each_by_itself(kind: str) -> None:
    batch, objective = grouped_batch(), retrieval_of("mbart")
    if kind == "rc3":
        objective = RC3(RC3Config(), objective.network).double().eval()
    names, images = [0, 3, 5, 6], [5, 5, 0, 6]
    found_P = objective.pair_scores(batch, names, images)
    inputs = Inputs(objective.network, batch)
    for score, name, image in zip(found_P.tolist(), names, images, strict=True):
        assert score == pytest.approx(score_of(objective, inputs, name, image).item(), rel=1e-6)


def test_measures_are_of_a_choice_among_all_rows() -> None:
    objective, batch = retrieval_of("mt5"), grouped_batch()
    own = objective.measure(batch)
    everything = dataclasses.replace(batch, group_B=torch.zeros_like(batch.group_B))
    terms = outputs_of(objective, everything, 0).terms
    total, count = own["held_out_match"].tolist()
    assert (total, count) == (pytest.approx(sum(term.sum.item() for term in terms.values()), rel=1e-6), 16)
    found, count = own["held_out_recall1"].tolist()
    assert 0 <= found <= count == 16
    with torch.no_grad():
        objective.match.weight.zero_()
    assert objective.measure(batch)["held_out_recall1"].tolist() == [0, 16], "all scores are ties"


def test_nothing_to_compare_counts_nothing_and_moves_every_parameter() -> None:
    objective, batch = retrieval_of("mt5"), grouped_batch()
    blind = dataclasses.replace(batch, image_mask_BI=torch.zeros_like(batch.image_mask_BI))
    for changed in (blind, dataclasses.replace(batch, group_B=torch.arange(10)), batch):
        objective.zero_grad()
        outputs = outputs_of(objective, changed, 0)
        assert all(term.count or not term.sum.item() for term in outputs.terms.values())
        sum(term.sum for term in outputs.terms.values()).backward()
        assert all(parameter.grad is not None for parameter in objective.parameters())
        moved = {name for name, parameter in objective.named_parameters() if parameter.grad.any()}
        assert not any("decoder" in name for name in moved)
    assert objective.measure(blind)["held_out_match"].tolist() == [0, 0]
    assert objective.flops(batch) > objective.flops(blind)
