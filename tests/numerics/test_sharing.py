"""Story-batched computation equals every row on its own, with and without kept activations, compiled and not."""

import dataclasses
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.arrangement import Arrangement
from models.network import Network
from models.objectives.base import Outputs
from models.objectives.d2tv import D2TV, D2TVConfig, arrange
from models.synthetic import EOS_ID, PAD_ID, random_batch, same_target, tiny_config
from shards.batch.types import Batch
from tests.support.objectives import outputs_of
from tests.unit.models.test_marked_texts import MBART

BACKBONES = ["mt5", "mbart"]


def build(share: bool = True, dropout: float = 0.0, backbone: str = "mt5", **flags) -> D2TV:
    """mBART's texts begin with their language: summaries, too, where they are read."""
    torch.manual_seed(0)
    config = tiny_config(dropout=dropout)
    if backbone == "mbart":
        config = config.model_copy(update={"text": MBART.model_copy(update={"dropout": dropout})})
    network = Network(config, 50, PAD_ID, EOS_ID, marks_texts=backbone == "mbart")
    objective = D2TV(D2TVConfig(alpha_steps=100, **flags), network, share=share).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def run(objective: D2TV, batch: Batch) -> tuple[Outputs, dict[str, Tensor]]:
    torch.manual_seed(5)
    objective.zero_grad()
    outputs = outputs_of(objective, batch, 20)
    sum(term.weight * term.sum / max(term.count, 1) for term in outputs.terms.values()).backward()
    return outputs, {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


def assert_same(ours: tuple[Outputs, dict[str, Tensor]], theirs: tuple[Outputs, dict[str, Tensor]]) -> None:
    """To float64's rounding: the arithmetic differs in its order alone."""
    for name, term in theirs[0].terms.items():
        torch.testing.assert_close(ours[0].terms[name].sum, term.sum, rtol=1e-9, atol=1e-9)
        assert ours[0].terms[name].count == term.count
    for branch, nll in theirs[0].row_nll.items():
        torch.testing.assert_close(ours[0].row_nll[branch], nll)
        assert torch.equal(ours[0].row_tokens[branch], theirs[0].row_tokens[branch])
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def stories(rows: list[tuple[int, int, int]], placeholder: int | None = None) -> Batch:
    """Rows (story, source language, target language): an article has one text, a story's images are shared."""
    batch = random_batch(rows=len(rows), seed=4)
    texts = random_batch(rows=16, document=9, summary=5, seed=8)
    number = [[4 * story + language for story, *pair in rows for language in pair[side : side + 1]] for side in (0, 1)]
    source, target = (torch.tensor(side) for side in number)
    story_B, source_B, target_B = (torch.tensor(column) for column in zip(*rows, strict=True))
    weight_B = torch.ones(len(rows))
    if placeholder is not None:
        weight_B[placeholder % len(rows)] = 0
    return dataclasses.replace(
        batch,
        source_ids_BM=texts.source_ids_BM[source],
        source_mask_BM=texts.source_mask_BM[source],
        target_ids_BM=texts.source_ids_BM[target],
        target_mask_BM=texts.source_mask_BM[target],
        summary_ids_BN=texts.summary_ids_BN[target],
        summary_mask_BN=texts.summary_mask_BN[target],
        start_B=2 + target_B,
        roi_BIRV=texts.roi_BIRV[story_B],
        boxes_BIR4=texts.boxes_BIR4[story_B],
        image_mask_BI=texts.image_mask_BI[story_B],
        images_B=story_B,
        cross_B=source_B != target_B,
        weight_B=weight_B,
        source_language_B=source_B,
        target_language_B=target_B,
        story_B=story_B,
        group_B=target_B,
    )


ROW = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
FLAGS = [{}, {"contrast": False, "distillation": "vanilla"}, {"branches": "mxls", "distillation": "none"}]


@pytest.mark.parametrize("backbone", BACKBONES)
@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=8),
    placeholder=st.none() | st.integers(0, 7),
    flags=st.sampled_from(FLAGS),
)
def test_shared_equals_every_row_on_its_own(
    backbone: str, rows: list[tuple[int, int, int]], placeholder: int | None, flags: dict
) -> None:
    """Any rows: repeated ones, whole stories with every direction, articles that are source here and target there."""
    batch = stories(rows, placeholder)
    shared, alone = (build(share, backbone=backbone, **flags) for share in (True, False))
    assert_same(run(shared, batch), run(alone, batch))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_articles_with_images_of_their_own(backbone: str) -> None:
    """One document may be fused with different images: encoded once, fused twice."""
    batch = same_target(random_batch(rows=4, full=True), 0, 1)
    own = batch.images_B.clone()
    own[1] = 9  # one target article, two sources with images of their own
    source_language = batch.source_language_B.clone()
    source_language[1] = 2
    roi = batch.roi_BIRV.clone()
    roi[1] *= 0.5
    batch = dataclasses.replace(batch, images_B=own, roi_BIRV=roi, source_language_B=source_language)
    arranged = arrange(Arrangement(batch), batch, D2TVConfig()).arranged()
    assert arranged.memory_T is not None
    shared, alone = (build(share, backbone=backbone) for share in (True, False))
    assert_same(run(shared, batch), run(alone, batch))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("what", ["source", "target", "summary"])
def test_variants_of_an_article_are_computed_apart(backbone: str, what: str) -> None:
    """Two rows of one story and direction whose texts differ, as an augmented document does from its article."""
    batch = stories([(0, 1, 2), (0, 1, 2), (1, 1, 2)])
    names = {"source": "source_ids_BM", "target": "target_ids_BM", "summary": "summary_ids_BN"}
    ids = getattr(batch, names[what]).clone()
    ids[1, 0] = 40 if ids[1, 0] != 40 else 41
    batch = dataclasses.replace(batch, **{names[what]: ids})
    assert_same(run(build(True, backbone=backbone), batch), run(build(False, backbone=backbone), batch))


def test_four_parallel_languages_cost_what_is_distinct() -> None:
    """Eq. 10 for one story of four languages: 4 documents instead of 28, one image sequence, 4 + 12 decodes."""
    batch = stories([(0, source, target) for target in range(4) for source in range(4)])
    arranged = arrange(Arrangement(batch), batch, D2TVConfig()).arranged()
    assert arranged.main.texts == 16
    assert arranged.pool_images.shape[0] == 1
    assert arranged.encoded["summary"].pool.shape[0] == 4
    documents = {int(n): batch.source_mask_BM[row].sum() for row, n in enumerate(batch.source_language_B)}
    assert arranged.document_tokens == sum(documents.values())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_activation_checkpointing_changes_nothing(dropout: float, backbone: str) -> None:
    """Not even the dropout: what is computed again draws the same masks."""
    batch = random_batch(rows=6, groups=2)
    plain, checkpointed = (build(dropout=dropout, backbone=backbone) for _ in range(2))
    checkpointed.network.run_layers(activation_checkpointing=True, compile=False)
    kept = {}
    for name, objective in (("plain", plain), ("checkpointed", checkpointed)):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: (s.append(x.numel()), x)[1], lambda x: x):
            outputs_of(objective, batch, 0)
        kept[name] = sum(sizes)
    assert kept["checkpointed"] < 0.7 * kept["plain"]
    ours, theirs = run(checkpointed, batch), run(plain, batch)
    for name, gradient in theirs[1].items():
        assert torch.equal(ours[1][name], gradient), name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_captured_layers_compute_the_same(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile's graphs as captured; the code made of them: tests/distributed/test_layer_options.py."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert_compiled_layers_compute_the_same(checkpointing)


def assert_compiled_layers_compute_the_same(checkpointing: bool) -> None:
    """Compare batches of several sizes, without compiling anew for each."""
    plain, compiled = build(), build()
    compiled.network.run_layers(activation_checkpointing=checkpointing, compile=True)
    torch._dynamo.reset()
    for rows in (3, 5, 6):
        batch = random_batch(rows=rows, seed=rows)
        assert_same(run(compiled, batch), run(plain, batch))
