"""CAT, from token ids and regions to J and every parameter's gradient, against loops over examples."""

import dataclasses
from typing import Any

import cat_reference
import pytest
import reference
import torch
from test_objective import example_rows, mixed_batch
from torch import Tensor

from models.network import Network
from models.objectives.cat import Cat
from models.objectives.cat_config import CatConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, same_target, tiny_config
from shards.batch.types import Batch
from shards.errors import InputError
from tests.support.objectives import outputs_of


def build(**flags: Any) -> Cat:
    torch.manual_seed(0)
    objective = Cat(CatConfig(classes=5, **flags), Network(tiny_config(), 50, PAD_ID, EOS_ID)).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def masked_regions(objective: Cat, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[list[int]]]:
    """Run the objective, and return its outputs with the masked regions of each row, counted over the row's images."""
    drawn: list[Tensor] = []
    draw = objective._mask
    monkeypatch.setattr(objective, "_mask", lambda *given: (mask := draw(*given), drawn.append(mask.region_S))[0])
    outputs = outputs_of(objective, batch, 0)
    (region_S,) = drawn
    begin, sequences, rows = 0, {}, []
    for row, images in enumerate(batch.images_B.tolist()):
        count = int(batch.image_mask_BI[row].sum()) * batch.roi_BIRV.shape[2]
        if count and images not in sequences:
            sequences[images] = [int(region) - begin for region in region_S if begin <= region < begin + count]
            begin += count
        rows.append(sequences.get(images, []))
    return outputs, rows


@pytest.mark.parametrize("mask_share", [0.15, 0.6, 1.0])
def test_terms_loss_and_gradients_equal_the_loops(mask_share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = build(mask_share=mask_share, vision_to_summary=0.7, masked_regions=1.3)
    batch = mixed_batch()
    outputs, hidden = masked_regions(objective, batch, monkeypatch)
    assert any(hidden)
    network = objective.network.config
    setup = {
        "text_layers": network.text.num_layers,
        "text_heads": network.text.num_heads,
        "vision": True,
        "vision_layers": network.vision.num_layers,
        "vision_heads": network.vision.num_heads,
        "fusion_heads": network.fusion.num_heads,
    }
    params = {n.removeprefix("network."): p.detach().clone() for n, p in objective.named_parameters()}
    for parameter in params.values():
        parameter.requires_grad_()
    rows, flags = example_rows(batch), objective.config.model_dump()
    base = reference.objective(params, rows, setup, flags, 0)
    own = cat_reference.objective(params, rows, hidden, setup, flags, objective.directions_FK)
    expected = {name: (total, count) for name, (total, count, _) in base["terms"].items()} | own
    assert list(outputs.terms) == ["mms", "mxls", "v2s", "mim"]
    for name, (total, count) in expected.items():
        assert outputs.terms[name].sum.item() == pytest.approx(float(total), rel=1e-5), name
        assert outputs.terms[name].count == count, name
    for branch, nll in base["nll"].items():
        torch.testing.assert_close(outputs.row_nll[branch], torch.tensor(nll, dtype=torch.float32))
    weights = {"mms": 1.0, "mxls": 1.0, "v2s": 0.7, "mim": 1.3}
    sum(weights[name] * total / count for name, (total, count) in expected.items()).backward()
    sum(term.weight * term.sum / term.count for term in outputs.terms.values()).backward()
    for name, parameter in objective.named_parameters():
        theirs = params[name.removeprefix("network.")].grad
        theirs = torch.zeros_like(parameter) if theirs is None else theirs
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_rows_with_one_summary_and_images_are_computed_once() -> None:
    """Two sources of one target article: their sums are twice one's, from one summary and one visual sequence."""
    objective = build(mask_share=1.0).eval()
    batch = same_target(random_batch(rows=2, full=True), 0, 1)
    batch = dataclasses.replace(batch, source_language_B=torch.tensor([1, 2]))
    alone = dataclasses.replace(batch, weight_B=torch.tensor([1.0, 0.0]))
    both, one = (outputs_of(objective, given, 0).terms for given in (batch, alone))
    for name in ("v2s", "mim"):
        torch.testing.assert_close(both[name].sum, 2 * one[name].sum)
        assert both[name].count == 2 * one[name].count
    students = objective._arrange(batch).arranged().main.parts
    assert len(set(students["v2s"].text_B.tolist())) == 1
    student = objective.flops(batch) - objective.flops(alone)
    assert 0 < student < objective.flops(alone) / 2


def test_without_any_image_every_parameter_takes_part_and_nothing_counts() -> None:
    objective, batch = build(), random_batch(rows=3)
    batch = dataclasses.replace(batch, image_mask_BI=torch.zeros_like(batch.image_mask_BI))
    terms = outputs_of(objective, batch, 0).terms
    assert [terms[name].count for name in ("v2s", "mim")] == [0, 0]
    assert [terms[name].sum.item() for name in ("v2s", "mim")] == [0, 0]
    sum(term.weight * term.sum for term in terms.values()).backward()
    assert [name for name, parameter in objective.named_parameters() if parameter.grad is None] == []


def test_a_network_that_sees_nothing_is_refused() -> None:
    class Recipe:
        network = tiny_config(vision=False)
        mixture = None

    with pytest.raises(InputError, match=r"network\.vision\.enabled"):
        CatConfig().check(Recipe())
