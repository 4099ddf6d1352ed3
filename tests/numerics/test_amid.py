"""AMID, from token ids and regions to terms, gradients and the discriminators' weights, against loops over rows."""

import dataclasses
import math
from typing import Any

import amid_reference
import pytest
import torch
from test_objective import example_rows
from torch import Tensor

from models.losses.class_contrast import Candidates, class_contrast
from models.network import Network
from models.objectives.amid import Amid
from models.objectives.amid_config import AmidConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, same_target, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of

LABELS = ("a", "b", "c", "d")


def build(**flags: Any) -> Amid:
    torch.manual_seed(0)
    config = AmidConfig(labels=LABELS, width=6, warmup_steps=10, **flags)
    objective = Amid(config, Network(tiny_config(), 50, PAD_ID, EOS_ID)).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return objective


def mixed_batch() -> Batch:
    """Two groups with a row without images, one without a label, a placeholder, a class of one, and shared images."""
    batch = random_batch(rows=12, groups=2, seed=5)
    mask_BI = batch.image_mask_BI.clone()
    mask_BI[:, 0] = True
    mask_BI[2] = False
    weight_B = batch.weight_B.clone()
    weight_B[7] = 0
    label_B = torch.tensor([0, 0, 1, 1, 2, 0, 0, 0, 1, 1, -1, 2])
    batch = dataclasses.replace(
        batch, image_mask_BI=mask_BI, weight_B=weight_B, label_B=label_B, roi_BIRV=torch.rand_like(batch.roi_BIRV)
    )
    return dataclasses.replace(same_target(batch, 8, 9), label_B=label_B)


def compared_rows(objective: Amid, batch: Batch) -> list[dict]:
    assert batch.label_B is not None
    rows = []
    for row, of in enumerate(example_rows(batch)):
        if of["weight"] and len(of["roi"]) and batch.label_B[row] >= 0:
            of["class"] = int(batch.label_B[row])
            rows.append(of)
    return rows


def expected_terms(objective: Amid, batch: Batch, params: dict[str, Tensor], lambdas: tuple[float, float]) -> dict:
    network = objective.network.config
    setup = {
        "text_layers": network.text.num_layers,
        "text_heads": network.text.num_heads,
        "vision_layers": network.vision.num_layers,
        "vision_heads": network.vision.num_heads,
    }
    rows = compared_rows(objective, batch)
    return amid_reference.objective(params, rows, setup, objective.config.model_dump(), lambdas)


def parameters_of(objective: Amid) -> dict[str, Tensor]:
    params = {n.removeprefix("network."): p.detach().clone() for n, p in objective.named_parameters()}
    return {name: parameter.requires_grad_() for name, parameter in params.items()}


@pytest.mark.parametrize(
    "flags",
    [{}, {"target": "image"}, {"bound": "nce", "temperature": 0.1}, {"enhanced": False}],
    ids=["text", "image", "nce", "one discriminator"],
)
def test_terms_loss_and_gradients_equal_the_loops(flags: dict[str, Any]) -> None:
    objective, batch = build(**flags), mixed_batch()
    objective.distillation.adversary.smoothed_2.copy_(torch.tensor([0.3, -0.4]))
    share = 1 / (1 + math.exp(-0.7))
    lambdas = (share, 1 - share) if objective.config.enhanced else (1.0, 0.0)
    outputs = outputs_of(objective, batch, 10)
    params = parameters_of(objective)
    expected = expected_terms(objective, batch, params, lambdas)
    assert list(outputs.terms) == list(expected)
    for name, (total, count) in expected.items():
        assert outputs.terms[name].sum.item() == pytest.approx(float(total), rel=1e-6), name
        assert outputs.terms[name].count == count, name
    assert 0 < expected["adversarial_enhanced"][1] < expected["student"][1]
    weights = dict.fromkeys(expected, 1.0) | {"mi_student": 4.0, "mi_auxiliary": 1.6}
    assert {name: term.weight for name, term in outputs.terms.items()} == weights
    sum(weights[name] * total / count for name, (total, count) in expected.items()).backward()
    sum(term.weight * term.sum / term.count for term in outputs.terms.values()).backward()
    for name, parameter in objective.named_parameters():
        theirs = params[name.removeprefix("network.")].grad
        theirs = torch.zeros_like(parameter) if theirs is None else theirs  # of the decoder
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-5, atol=2e-6, msg=name)


def test_an_adversary_teaches_one_side_at_a_time() -> None:
    objective, batch = build(), mixed_batch()
    outputs = outputs_of(objective, batch, 10)

    def touched(term: str) -> set[str]:
        parameters = dict(objective.named_parameters())
        found = torch.autograd.grad(
            outputs.terms[term].sum, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        moved = {name for name, one in zip(parameters, found, strict=True) if one is not None and one.abs().sum() > 0}
        return {name.removeprefix("distillation.").split(".")[0] for name in moved}

    assert touched("adversarial_fundamental") == {"network", "student"}
    assert touched("adversarial_enhanced") == {"network", "student"}
    assert touched("discriminator_fundamental") == touched("discriminator_enhanced") == {"adversary"}
    assert "auxiliary" in touched("mi_auxiliary")
    assert "auxiliary" not in touched("mi_student")


def test_warm_up_learns_classes_alone() -> None:
    objective, batch = build(), mixed_batch()
    weights = {name: term.weight for name, term in outputs_of(objective, batch, 9).terms.items()}
    assert {name for name, weight in weights.items() if weight} == {"student", "teacher", "divergence"}


def weights_of(objective: Amid) -> list[float]:
    return [float(weight) for weight in objective.distillation.adversary.weights().values()]


def test_the_weights_of_the_discriminators_follow_eq_14() -> None:
    objective = build(epoch_steps=2, smoothing=0.9)
    steps = [(0.5, 0.9), (0.3, 0.7), (0.2, 0.4), (None, 0.1), (None, 0.8), (None, 0.6)]
    # An epoch's mean cosines; without a row in all of an epoch the smoothed value stays.
    epochs = [(0.4, 0.8), (0.2, 0.25), (None, 0.7)]
    smoothed, expected = [0.0, 0.0], [0.5, 0.5]
    for step, means in enumerate(steps):
        assert [float(weight) for weight in objective.distillation.adversary.weights().values()] == pytest.approx(
            expected
        )
        named = zip(("similarity_fundamental", "similarity_enhanced"), means, strict=True)
        objective.after_step(step + 1, {name: mean for name, mean in named if mean is not None}, {})
        if step % 2:
            smoothed, expected = amid_reference.next_weights(smoothed, epochs[step // 2], 0.9)
    assert weights_of(objective) == pytest.approx(expected)
    assert abs(expected[0] - 0.5) > 0.004
    constant = build(adaptive=False, epoch_steps=1)
    constant.after_step(1, {"similarity_fundamental": 0.9, "similarity_enhanced": 0.1}, {})
    assert weights_of(constant) == [0.5, 0.5]


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [-1, -1, -1, -1], [0, -1, -1, -1]])
def test_one_class_no_class_and_single_members_are_numbers(labels: list[int]) -> None:
    objective = build()
    batch = random_batch(rows=4, seed=1, full=True)
    same = batch.roi_BIRV[:1].expand_as(batch.roi_BIRV).clone()  # identical images as well
    batch = dataclasses.replace(batch, label_B=torch.tensor(labels), roi_BIRV=same)
    outputs = outputs_of(objective, batch, 10)
    total = sum(term.weight * term.sum for term in outputs.terms.values())
    gradients = torch.autograd.grad(total, list(objective.parameters()))
    assert all(term.sum.isfinite() for term in outputs.terms.values())
    assert all(gradient.isfinite().all() for gradient in gradients)
    if set(labels) == {-1}:
        assert all(not gradient.any() for gradient in gradients)


def test_a_certain_pair_has_finite_terms() -> None:
    cosine_BB = (2 * torch.eye(3) - 1).requires_grad_()
    beside_BB = torch.ones(3, 3, dtype=torch.bool)
    pairs = Candidates(beside_BB=beside_BB, same_BB=beside_BB & ~torch.eye(3, dtype=torch.bool))
    loss_B = class_contrast(cosine_BB, pairs, 0.01)
    loss_B.sum().backward()
    assert loss_B.isfinite().all()
    assert cosine_BB.grad is not None
    assert cosine_BB.grad.isfinite().all()


def test_student_and_teacher_choose_by_one_classifier() -> None:
    objective, batch = build(), mixed_batch()
    rows = [0, 1, 3, 4, 5, 6, 8, 9, 11]
    params = parameters_of(objective)
    network = objective.network.config
    setup = {"text_layers": network.text.num_layers, "text_heads": network.text.num_heads}
    setup |= {"vision_layers": network.vision.num_layers, "vision_heads": network.vision.num_heads}
    found, measured = objective.judge(batch), objective.measure(batch)
    for column in ("student", "teacher"):
        right = 0
        for row, of in zip(rows, compared_rows(objective, batch), strict=True):
            read = amid_reference.extract(params, of, setup, "target")
            said = amid_reference.represent(params, read, "text")[column]
            torch.testing.assert_close(found[column][1][row], said.detach())
            chosen = int((params["classify.weight"] @ said + params["classify.bias"]).argmax())
            assert int(found[column][0][row]) == chosen
            right += chosen == of["class"]
        assert measured[f"held_out_{column}_accuracy"].tolist() == [right, len(rows)]
