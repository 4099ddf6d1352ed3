"""AMID for summaries, from token ids and regions to terms and gradients, against loops over rows."""

import dataclasses
from typing import Any

import amid_reference
import pytest
import torch
from test_objective import example_rows, mixed_batch

from models.network import Network
from models.objectives.amid_summary import AmidSummary
from models.objectives.amid_summary_config import AmidSummaryConfig
from models.synthetic import EOS_ID, PAD_ID, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of


def build(**flags: Any) -> AmidSummary:
    torch.manual_seed(0)
    config = AmidSummaryConfig(width=6, warmup_steps=10, **flags)
    objective = AmidSummary(config, Network(tiny_config(), 50, PAD_ID, EOS_ID)).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def told_twice() -> Batch:
    """Rows of which some of a group tell the same story in other languages."""
    batch = mixed_batch()
    story_B = batch.story_B.clone()
    story_B[1] = story_B[0]
    mask_BI = batch.image_mask_BI.clone()
    mask_BI[:2, 0] = True
    group_B = torch.zeros_like(batch.group_B)
    return dataclasses.replace(batch, story_B=story_B, group_B=group_B, image_mask_BI=mask_BI)


@pytest.mark.parametrize("flags", [{}, {"divergence": 0.3, "student": 2.0, "label_smoothing": 0.0}])
def test_terms_loss_and_gradients_equal_the_loops(flags: dict[str, Any]) -> None:
    objective, batch = build(**flags), told_twice()
    network = objective.network.config
    setup = {
        "text_layers": network.text.num_layers,
        "text_heads": network.text.num_heads,
        "vision_layers": network.vision.num_layers,
        "vision_heads": network.vision.num_heads,
        "fusion_heads": network.fusion.num_heads,
    }
    params = {n.removeprefix("network."): p.detach().clone() for n, p in objective.named_parameters()}
    params = {name: parameter.requires_grad_() for name, parameter in params.items()}
    rows = [row for row in example_rows(batch) if row["weight"]]
    expected = amid_reference.summaries(params, rows, setup, objective.config.model_dump(), (0.5, 0.5))
    outputs = outputs_of(objective, batch, 10)
    assert list(outputs.terms) == list(expected)
    for name, (total, count) in expected.items():
        assert outputs.terms[name].sum.item() == pytest.approx(float(total.detach()), rel=1e-5), name
        assert outputs.terms[name].count == count, name
    assert expected["adversarial_enhanced"][1] == 2
    config = objective.config
    weights = dict.fromkeys(expected, 1.0) | {"mi_student": 4.0, "mi_auxiliary": 1.6}
    weights |= {"student": config.student, "divergence": config.divergence}
    assert {name: term.weight for name, term in outputs.terms.items()} == weights
    sum(weights[name] * total / count for name, (total, count) in expected.items()).backward()
    sum(term.weight * term.sum / term.count for term in outputs.terms.values()).backward()
    for name, parameter in objective.named_parameters():
        theirs = params[name.removeprefix("network.")].grad
        theirs = torch.zeros_like(parameter) if theirs is None else theirs
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=5e-6, msg=name)


def test_the_student_reads_no_image_and_is_the_teachers_text_model() -> None:
    objective, batch = build(), told_twice()
    student, teacher = objective.products().values()
    nll_B, tokens_B = student.row_nll(batch)
    outputs = outputs_of(objective, batch, 10)
    torch.testing.assert_close(outputs.row_nll["student"], nll_B.float())
    torch.testing.assert_close(outputs.row_tokens["student"], tokens_B.float())
    torch.testing.assert_close(outputs.row_nll["teacher"], teacher.row_nll(batch)[0].float())
    other = dataclasses.replace(batch, roi_BIRV=torch.rand_like(batch.roi_BIRV))
    torch.testing.assert_close(student.row_nll(other)[0], nll_B, rtol=0, atol=0)
    assert {id(parameter) for parameter in student.parameters()} < {id(parameter) for parameter in teacher.parameters()}
    assert not any("vision" in name or "fusion" in name for name, _ in student.named_parameters())


def test_operations_count_the_student_behind_the_encoder() -> None:
    objective, batch = build(), told_twice()
    seeing, blind = objective._arrange(batch)
    alone = objective.network.flops(seeing).training
    student = objective.student.flops(blind)
    own = objective.flops(batch) - alone - 3 * (student.decoder + student.head) - student.head
    assert 0 < own < alone / 2
