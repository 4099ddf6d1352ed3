"""The whole objective, from token ids to J and every parameter's gradient, against the paper's loops.

The reference sees one unpadded example at a time, so agreement also shows that padding, stacking the branches,
packing, masking and computing a shared text once change nothing.
"""

import dataclasses

import pytest
import reference
import torch
from torch import Tensor

from models.arranged import Arranged
from models.network import Network
from models.objectives.d2tv import D2TV, D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, same_target, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of

VARIANTS = {
    "mms": {"branches": "mms", "distillation": "none", "contrast": False},
    "mxls": {"branches": "mxls", "distillation": "none", "contrast": False},
    "mms+mxls": {"distillation": "none", "contrast": False},
    "vanilla-kd": {"distillation": "vanilla", "contrast": False},
    "dkd-cosine": {"contrast": False},
    "dkd-mse": {"distance": "mse", "contrast": False},
    "dkd-kl": {"distance": "kl", "contrast": False},
    "tco": {"distillation": "none", "beta": 0.7, "temperature": 0.5},
    "d2tv": {"beta": 0.5},
}


def build(vision: bool = True, hidden_size: int | None = None, **flags) -> D2TV:
    """A network in float64 with noise on every parameter, so that no path starts at zero."""
    torch.manual_seed(0)
    network = Network(tiny_config(vision=vision, hidden_size=hidden_size), 50, PAD_ID, EOS_ID)
    objective = D2TV(D2TVConfig(alpha_steps=100, **flags), network).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def example_rows(batch: Batch) -> list[dict]:
    rows = []
    for b in range(len(batch)):
        images = batch.image_mask_BI[b]
        rows.append(
            {
                "source": batch.source_ids_BM[b][batch.source_mask_BM[b]],
                "target": batch.target_ids_BM[b][batch.target_mask_BM[b]],
                "summary": batch.summary_ids_BN[b][batch.summary_mask_BN[b]],
                "roi": batch.roi_BIRV[b][images].double(),
                "boxes": batch.boxes_BIR4[b][images].double(),
                "start": batch.start_B[b],
                "cross": bool(batch.cross_B[b]),
                "weight": float(batch.weight_B[b]),
                "group": int(batch.group_B[b]),
                "story": int(batch.story_B[b]),
            }
        )
    return rows


def expected(objective: D2TV, batch: Batch, step: int) -> tuple[dict, dict[str, Tensor]]:
    params = {n.removeprefix("network."): p.detach().clone() for n, p in objective.named_parameters()}
    for parameter in params.values():
        parameter.requires_grad_()
    network = objective.network.config
    setup = {
        "text_layers": network.text.num_layers,
        "text_heads": network.text.num_heads,
        "vision": network.vision.enabled,
        "vision_layers": network.vision.num_layers,
        "vision_heads": network.vision.num_heads,
        "fusion_heads": network.fusion.num_heads,
    }
    result = reference.objective(params, example_rows(batch), setup, objective.config.model_dump(), step)
    result["J"].backward()
    return result, params


def mixed_batch() -> Batch:
    """Two groups; a monolingual row without images, a placeholder, and two sources of one target article."""
    batch = random_batch(rows=6, groups=2, seed=3)
    weight_B = batch.weight_B.clone()
    weight_B[4] = 0
    source_language_B = batch.source_language_B.clone()
    source_language_B[1] = 2
    return dataclasses.replace(same_target(batch, 0, 1), weight_B=weight_B, source_language_B=source_language_B)


@pytest.mark.parametrize("name", VARIANTS)
def test_terms_loss_and_gradients_equal_the_papers(name: str) -> None:
    compare(build(**VARIANTS[name]), mixed_batch())


def test_without_visual_features() -> None:
    compare(build(vision=False, contrast=False), mixed_batch())


def test_with_a_projection_of_the_features() -> None:
    compare(build(hidden_size=8), mixed_batch())


def compare(objective: D2TV, batch: Batch) -> None:
    step = 20
    outputs = outputs_of(objective, batch, step)
    result, params = expected(objective, batch, step)
    assert set(outputs.terms) == set(result["terms"])
    for term, (total, count, weight) in result["terms"].items():
        ours = outputs.terms[term]
        assert ours.sum.item() == pytest.approx(total.item(), rel=1e-5), term
        assert (ours.count, ours.weight) == (count, pytest.approx(weight)), term
    trained = {branch.name for branch in objective.branches}
    assert set(outputs.row_nll) == trained
    for branch, nll in result["nll"].items():
        if branch not in trained:
            assert not any(nll)
            continue
        torch.testing.assert_close(outputs.row_nll[branch].double(), torch.tensor(nll).double(), rtol=1e-5, atol=1e-6)

    loss = sum(term.weight * term.sum / term.count for term in outputs.terms.values())
    assert loss.item() == pytest.approx(result["J"].item(), rel=1e-5)
    objective.zero_grad()
    loss.backward()
    for name, parameter in objective.named_parameters():
        theirs = params[name.removeprefix("network.")].grad
        theirs = torch.zeros_like(parameter) if theirs is None else theirs
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_distillation_reads_states_before_the_last_dropout() -> None:
    """Only what comes between decoder and head is dropped: distances stay the reference's, cross-entropy does not."""
    objective, batch = build(contrast=False), mixed_batch()
    objective.network.backbone.output_dropout = 0.5
    outputs = outputs_of(objective.train(), batch, 20)
    result, _ = expected(objective, batch, 20)
    for name in ("kd_teacher_to_student", "kd_student_to_teacher"):
        assert outputs.terms[name].sum.item() == pytest.approx(result["terms"][name][0].item(), rel=1e-5), name
    for name in ("mms", "mxls"):
        assert outputs.terms[name].sum.item() != pytest.approx(result["terms"][name][0].item(), rel=1e-2), name


@pytest.mark.parametrize("distance", ["cosine", "mse", "kl"])
def test_the_floor_is_what_dropout_alone_makes_of_the_distance(distance: str) -> None:
    objective, batch = build(contrast=False, distance=distance), mixed_batch()
    result, _ = expected(objective, batch, 20)
    total, count, _ = result["terms"]["kd_teacher_to_student"]
    found = objective.measure(batch)
    assert set(found) == set(objective.measured)
    assert found["kd_distance"].tolist() == pytest.approx([total.item(), count], rel=1e-5)
    assert found["kd_floor"].tolist() == [pytest.approx(0, abs=1e-9), count]

    torch.manual_seed(0)
    network = Network(tiny_config(dropout=0.2), 50, PAD_ID, EOS_ID)
    objective = D2TV(D2TVConfig(contrast=False, distance=distance), network).eval()
    wide = random_batch(rows=32, full=True, seed=1)
    apart = {name: float(value / count) for name, (value, count) in objective.measure(wide).items()}
    assert not objective.training
    # Teacher and student read the same document: nothing but dropout is between them.
    one = dataclasses.replace(wide, source_ids_BM=wide.target_ids_BM, source_mask_BM=wide.target_mask_BM)
    same = {name: float(value / count) for name, (value, count) in objective.measure(one).items()}
    assert same["kd_distance"] == pytest.approx(same["kd_floor"], rel=0.15)
    assert 0 < same["kd_floor"] < apart["kd_distance"]


def gradients(objective: D2TV, batch: Batch, step: int, only: str = "") -> dict[str, Tensor]:
    objective.zero_grad()
    terms = outputs_of(objective, batch, step).terms
    sum(t.weight * t.sum / t.count for n, t in terms.items() if n.startswith(only)).backward()
    return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("distance", ["cosine", "mse", "kl"])
def test_alpha_changes_the_gradient(distance: str) -> None:
    """With gradients on both sides alpha * KD + (1 - alpha) * KD would be KD for any alpha."""
    objective, batch = build(distance=distance), mixed_batch()
    early, late = gradients(objective, batch, 0, "kd"), gradients(objective, batch, 100, "kd")
    name = "network.fusion.output.weight"
    assert not torch.allclose(early[name], late[name], rtol=1e-2)


def test_the_teaching_side_gets_no_gradient() -> None:
    """At step 0 alpha is 1: only the student learns, so nothing reaches what the teacher alone reads."""
    objective, batch = build(contrast=False), random_batch(full=True, seed=1)
    seen: dict[str, Tensor] = {}
    encode = objective.network.encode

    def spy(arranged: Arranged) -> Tensor:
        seen["text"] = encode(arranged)
        seen["text"].retain_grad()
        return seen["text"]

    objective.network.encode = spy  # type: ignore[method-assign]
    terms = outputs_of(objective, batch, 0).terms
    terms["kd_teacher_to_student"].sum.backward(retain_graph=True)
    # Documents come in the order of the decoded summaries: the teacher's first.
    tokens = int(batch.target_mask_BM.sum())
    assert not seen["text"].grad[:tokens].any()
    assert seen["text"].grad[tokens:].any()
    seen["text"].grad = None
    terms["kd_student_to_teacher"].sum.backward()
    assert seen["text"].grad[:tokens].any()
    assert not seen["text"].grad[tokens:].any()
