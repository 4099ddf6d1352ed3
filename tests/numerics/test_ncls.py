"""NCLS with a second task: terms and every parameter's gradient, against loops over examples."""

import dataclasses
from typing import Any

import pytest
import torch
from across_reference import states
from reference import cross_entropy, cross_modal_attention, decode, encode_text, fuse, linear
from test_objective import example_rows
from torch import Tensor

from models.network import Network
from models.objectives.ncls import Ncls
from models.objectives.ncls_config import NclsConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of

SETUP = {"text_layers": 2, "text_heads": 4, "vision_layers": 2, "vision_heads": 2, "fusion_heads": 2}


def build(**flags: Any) -> Ncls:
    torch.manual_seed(0)
    objective = Ncls(NclsConfig(**flags), Network(tiny_config(), 50, PAD_ID, EOS_ID)).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def mixed_batch() -> Batch:
    """Six rows: one monolingual and without images, one a placeholder, one whose source has no summary."""
    batch = random_batch(rows=6, groups=2, seed=3, source_summaries=True)
    weight_B, mask_BS = batch.weight_B.clone(), batch.source_summary_mask_BS.clone()
    weight_B[4] = 0
    mask_BS[5, 1:] = False
    mask_BS[[0, 1, 2, 3], :2] = True
    return dataclasses.replace(batch, weight_B=weight_B, source_summary_mask_BS=mask_BS)


def expected(params: dict[str, Tensor], batch: Batch, config: NclsConfig) -> dict[str, tuple[Tensor, int]]:
    """Sum and count of either term."""
    main = {n.removeprefix("network."): p for n, p in params.items()}
    second = {n.replace("second.", "backbone.model.decoder."): p for n, p in main.items() if n.startswith("second.")}
    terms: dict[str, list[Tensor]] = {"cls": [], config.task: []}
    for b, row in enumerate(example_rows(batch)):
        if not row["weight"]:
            continue
        _, hidden = states(main, row["source"], row, SETUP)
        terms["cls"] += cross_entropy(linear(main, "backbone.head", hidden), row["summary"], config.label_smoothing)
        source_summary = batch.source_summary_ids_BS[b][batch.source_summary_mask_BS[b]]
        if len(source_summary) == 1:
            continue
        if config.task == "mls":
            target = source_summary
            own = row | {"summary": target, "start": batch.source_start_B[b]}
            _, hidden = states(main | second, row["source"], own, SETUP)
        elif row["cross"]:
            target = row["summary"]
            text = encode_text(main, source_summary, 2, 4)
            memory = fuse(main, text, cross_modal_attention(main, text, None, 2))
            shifted = torch.cat((row["start"].reshape(1), target[:-1]))
            hidden = decode(main | second, shifted, memory, 2, 4)
        else:
            continue
        terms[config.task] += cross_entropy(linear(main, "backbone.head", hidden), target, config.label_smoothing)
    return {name: (sum(values), len(values)) for name, values in terms.items()}


@pytest.mark.parametrize("task", ["mls", "mt"])
def test_terms_and_gradients_equal_the_loops(task: str) -> None:
    objective, batch = build(task=task, weight=0.6), mixed_batch()
    outputs = outputs_of(objective, batch, 0)
    params = {n: p.detach().clone().requires_grad_() for n, p in objective.named_parameters()}
    terms = expected(params, batch, objective.config)
    assert list(outputs.terms) == ["cls", task]
    for name, (total, count) in terms.items():
        assert outputs.terms[name].sum.item() == pytest.approx(total.item(), rel=1e-5), name
        assert outputs.terms[name].count == count
    weights = {"cls": 1.0, task: 0.6}
    sum(weights[name] * total / count for name, (total, count) in terms.items()).backward()
    sum(term.weight * term.sum / term.count for term in outputs.terms.values()).backward()
    for name, parameter in objective.named_parameters():
        theirs = params[name].grad
        theirs = torch.zeros_like(parameter) if theirs is None else theirs
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_a_batch_without_anything_to_translate_uses_every_parameter() -> None:
    objective = build(task="mt")
    batch = random_batch(rows=3, source_summaries=True)
    batch = dataclasses.replace(batch, cross_B=torch.zeros(3, dtype=torch.bool))
    terms = outputs_of(objective, batch, 0).terms
    assert (terms["mt"].sum.item(), terms["mt"].count) == (0, 0)
    (terms["cls"].sum + terms["mt"].sum).backward()
    assert [name for name, parameter in objective.named_parameters() if parameter.grad is None] == []


def test_the_second_decoder_shares_the_embeddings_alone() -> None:
    objective = build(task="mls")
    second, own = objective.second, objective.network.backbone.model.decoder
    shared = {id(p) for p in second.parameters()} & {id(p) for p in own.parameters()}
    assert shared == {id(objective.network.backbone.model.shared.weight)}
