"""Classification, from token ids and regions to the loss, each gradient and the choice, against loops over rows."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from test_early_fusion import Inputs, build
from torch import Tensor

from models.objectives.classification import Classification
from models.objectives.classification_config import ClassificationConfig
from models.synthetic import random_batch
from shards.batch.types import Batch
from shards.errors import InputError
from tests.support.objectives import outputs_of

LABELS = ("contradiction", "entailment", "neutral")


def objective_of(backbone: str = "mbart", **flags: Any) -> Classification:
    objective = Classification(ClassificationConfig(labels=LABELS, **flags), build(backbone)).double().eval()
    with torch.no_grad():
        for parameter in objective.head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def mixed_batch() -> Batch:
    """Six rows: the first sees images, others none; one has no label, one is a placeholder."""
    batch = random_batch(rows=6, groups=2, seed=3)
    weight_B = batch.weight_B.clone()
    weight_B[4] = 0
    label_B = torch.tensor([2, 0, -1, 1, 0, 2])
    return dataclasses.replace(batch, weight_B=weight_B, label_B=label_B)


def expected_logits(objective: Classification, batch: Batch, row: int) -> list[Tensor]:
    """Return the logits of a row, a class at a time."""
    ids = torch.cat((batch.start_B[row : row + 1], batch.target_ids_BM[row][batch.target_mask_BM[row]]))
    if objective.network.marks_texts:  # the tokenizer puts the language there
        ids = ids[1:]
    x = Inputs(objective.network, batch).of(ids, image=row)[0]
    own = dict(objective.head.named_parameters())
    if objective.config.head == "mlp":
        x = own["0.weight"] @ x + own["0.bias"]
        x = torch.stack([value * 0.5 * (1 + torch.erf(value / math.sqrt(2))) for value in x])
        mean, variance = x.mean(), ((x - x.mean()) ** 2).mean()
        x = (x - mean) / torch.sqrt(variance + 1e-5) * own["2.weight"] + own["2.bias"]
        own = {"weight": own["3.weight"], "bias": own["3.bias"]}
    return [weight_D @ x + bias for weight_D, bias in zip(own["weight"], own["bias"], strict=True)]


@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize("backbone", ["mt5", "mbart"])
def test_loss_and_gradients_equal_the_loops(backbone: str, head: str) -> None:
    objective, batch = objective_of(backbone, head=head), mixed_batch()
    assert batch.label_B is not None
    outputs = outputs_of(objective, batch, 0)
    losses = []
    for row in (0, 1, 3, 5):
        logits = expected_logits(objective, batch, row)
        total = sum((torch.exp(one) for one in logits), torch.zeros(()).double())
        losses.append(-torch.log(torch.exp(logits[int(batch.label_B[row])]) / total))
    expected = sum(losses, torch.zeros(()).double())
    assert list(outputs.terms) == ["label"]
    assert outputs.terms["label"].count == 4
    assert outputs.terms["label"].sum.item() == pytest.approx(expected.item(), rel=1e-6)
    parameters = dict(objective.named_parameters())
    found = torch.autograd.grad(outputs.terms["label"].sum, list(parameters.values()))
    wanted = torch.autograd.grad(expected, list(parameters.values()), allow_unused=True)
    for name, ours, theirs in zip(parameters, found, wanted, strict=True):
        theirs = torch.zeros_like(ours) if theirs is None else theirs  # of the decoder
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6, msg=name)
    assert any(gradient.abs().sum() > 0 for name, gradient in zip(parameters, found, strict=True) if "vision" in name)


def test_every_parameter_takes_part_where_no_row_has_a_label() -> None:
    objective, batch = objective_of(), mixed_batch()
    batch = dataclasses.replace(batch, label_B=torch.full((6,), -1))
    outputs = outputs_of(objective, batch, 0)
    assert outputs.terms["label"].count == 0
    gradients = torch.autograd.grad(outputs.terms["label"].sum, list(objective.parameters()))
    assert all(not gradient.any() for gradient in gradients)


def test_the_likeliest_class_is_chosen_and_measured() -> None:
    objective, batch = objective_of(), mixed_batch()
    assert batch.label_B is not None
    chosen_B = objective.classify(batch)
    expected = {row: int(torch.stack(expected_logits(objective, batch, row)).argmax()) for row in (0, 1, 2, 3, 5)}
    assert {row: int(chosen_B[row]) for row in expected} == expected
    measured = objective.measure(batch)
    right = sum(expected[row] == int(batch.label_B[row]) for row in (0, 1, 3, 5))
    assert measured["held_out_accuracy"].tolist() == [right, 4]
    loss = outputs_of(objective, batch, 0).terms["label"].sum.item()
    torch.testing.assert_close(measured["held_out_label"].tolist(), [loss, 4.0])


def test_dropout_is_of_training_alone() -> None:
    objective, batch = objective_of(dropout=0.5), mixed_batch()
    still = outputs_of(objective, batch, 0).terms["label"].sum.item()
    objective.train()
    torch.manual_seed(1)
    assert outputs_of(objective, batch, 0).terms["label"].sum.item() != still
    objective.network.eval()
    assert outputs_of(objective, batch, 0).terms["label"].sum.item() == still


def test_operations_count_the_head_of_labelled_rows() -> None:
    linear, mlp = objective_of(head="linear"), objective_of(head="mlp")
    batch = mixed_batch()
    width = linear.network.hidden_size
    assert mlp.flops(batch) - linear.flops(batch) == 3 * 4 * 2 * (2 * width**2 + 2 * width * 3 - width * 3)


def test_labels_of_a_corpus_are_taken_where_none_are_given() -> None:
    config = ClassificationConfig()
    with pytest.raises(InputError, match=r"objective\.labels is null"):
        config.build(build("mt5"))
    filled = config.with_labels({"b", "a"}, {"b"}, "here")
    assert filled.class_names == ("a", "b")
    assert filled.with_labels({"b"}, {"a"}, "here") == filled
    with pytest.raises(InputError, match=r"here trains on the label 'c', which objective\.labels lacks: add it"):
        filled.with_labels({"c", "a"}, (), "here")
    with pytest.raises(InputError, match=r"test has examples labelled 'c', and the network is trained on 2 others"):
        filled.with_labels({"a", "b"}, {"a", "c"}, "test")
    with pytest.raises(InputError, match=r"two labels or more, and here trains on 1: set corpus\.path"):
        config.with_labels({"a"}, (), "here")
    opened = ClassificationConfig(labels=("a", "b"), open_labels=True)
    opened.check_held_out({"a", "c"}, "test")
    with pytest.raises(InputError, match=r"test has examples labelled 'c'"):
        opened.check_held_out({"c", "d"}, "test")
