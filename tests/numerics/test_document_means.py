"""Mean states of documents, their cosines and recall@1 against loops over one document at a time."""

import math

import pytest
import reference
import torch
from test_objective import example_rows

from models.network import Network
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from trainer.evaluation.alignment import cosines, figures_of


def test_a_document_s_mean_state_is_that_of_its_tokens_alone() -> None:
    torch.manual_seed(0)
    network = Network(tiny_config(dropout=0.5), 50, PAD_ID, EOS_ID).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    params = {name: parameter.detach() for name, parameter in network.named_parameters()}
    batch = random_batch(rows=7, document=13, seed=3)
    assert len({len(row["source"]) for row in example_rows(batch)}) > 2, "of different lengths"
    with torch.inference_mode():
        means_BD = network.document_means(batch)
    text = network.config.text
    for row, mean_D in zip(example_rows(batch), means_BD, strict=True):
        states_MD = reference.encode_text(params, row["source"], text.num_layers, text.num_heads)
        torch.testing.assert_close(mean_D, states_MD.mean(dim=0).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 20])
def test_similarities_and_recall_equal_the_loops(size: int) -> None:
    torch.manual_seed(size)
    source_ND = torch.randn(size, 6)
    target_ND = source_ND + 0.7 * torch.randn(size, 6)
    similarity_NN = cosines(source_ND, target_ND * 3)  # lengths do not count
    source, target = source_ND.tolist(), target_ND.tolist()

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    hits, pairs, others = 0, [], []
    for i, row in enumerate(source):
        found = [cosine(row, column) for column in target]
        assert similarity_NN[i].tolist() == pytest.approx(found, abs=1e-6)
        hits += max(range(size), key=lambda j, of=found: of[j]) == i
        pairs.append(found[i])
        others += [value for j, value in enumerate(found) if j != i]
    figures = figures_of(similarity_NN)
    assert figures["recall1"] == pytest.approx(hits / size)
    assert figures["chance"] == pytest.approx(1 / size)
    assert figures["pairs"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert figures["others"] == pytest.approx(sum(others) / len(others), abs=1e-6)


def test_recall_counts_rows_whose_own_pair_is_alone_at_the_top() -> None:
    made = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.7, 0.1], [0.5, 0.1, 0.5]], dtype=torch.float64)
    assert figures_of(made)["recall1"] == pytest.approx(1 / 3), "the second is beaten, the third is a tie"
    assert figures_of(made)["pairs"] == pytest.approx(0.7)
    assert figures_of(made)["others"] == pytest.approx(0.3)
    collapsed = torch.ones(4, 4, dtype=torch.float64)
    assert figures_of(collapsed)["recall1"] == 0, "an encoder that tells nothing apart finds nothing"
