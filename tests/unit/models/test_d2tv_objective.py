"""The objective's contract with the trainer on batches that data really brings: gaps, placeholders, one row."""

import dataclasses

import pytest
import torch

from models.arrangement import Arrangement
from models.network import Network
from models.objectives.base import Outputs
from models.objectives.d2tv import D2TV, D2TVConfig, arrange
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.batch.types import Batch
from shards.errors import InputError
from tests.support.batches import take_rows
from tests.support.objectives import outputs_of

FLAGS = {
    "mms": {"branches": "mms", "distillation": "none", "contrast": False},
    "mxls": {"branches": "mxls", "distillation": "none", "contrast": False},
    "vanilla": {"distillation": "vanilla", "contrast": False},
    "mxls+tco": {"branches": "mxls", "distillation": "none"},
    "d2tv": {},
}


def build(dropout: float = 0.0, **flags) -> D2TV:
    torch.manual_seed(0)
    return D2TV(D2TVConfig(**flags), Network(tiny_config(dropout=dropout), 50, PAD_ID, EOS_ID))


def no_images(batch: Batch) -> Batch:
    roi, mask = torch.zeros_like(batch.roi_BIRV), torch.zeros_like(batch.image_mask_BI)
    return dataclasses.replace(batch, roi_BIRV=roi, image_mask_BI=mask)


def placeholders(batch: Batch) -> Batch:
    """Rows of weight 0 as a collate may fill them: no token, no image."""
    empty = {
        name: torch.zeros_like(getattr(batch, name))
        for name in ("source_mask_BM", "target_mask_BM", "summary_mask_BN", "image_mask_BI", "weight_B")
    }
    return dataclasses.replace(batch, **empty)


BATCHES = {
    "full": random_batch(full=True),
    "mixed": random_batch(rows=6, groups=2),
    "no images": no_images(random_batch()),
    "no cross rows": dataclasses.replace(random_batch(), cross_B=torch.zeros(4, dtype=torch.bool)),
    "one row": random_batch(rows=1),
    "one-row groups": random_batch(rows=3, groups=3),
    "placeholders": placeholders(random_batch()),
    "weights of zero": dataclasses.replace(random_batch(), weight_B=torch.zeros(4)),
    "long summaries": random_batch(document=3, summary=9),
}


def total(outputs: Outputs) -> torch.Tensor:
    return sum(term.weight * term.sum / max(term.count, 1.0) for term in outputs.terms.values())


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_finite_complete_and_counted(flags: str, name: str, dtype: torch.dtype) -> None:
    objective, batch = build(dropout=0.1, **FLAGS[flags]).to(dtype), BATCHES[name]
    outputs = outputs_of(objective, batch, 3)
    assert {n: t.count for n, t in outputs.terms.items()} == objective.counts(batch)
    for term in outputs.terms.values():
        assert term.sum.dtype == torch.float32
        assert term.sum.shape == ()
        assert term.sum.isfinite()
    names = {branch.name for branch in objective.branches}
    assert set(outputs.row_nll) == set(outputs.row_tokens) == names == {"mms", "mxls"} & set(outputs.terms)
    for branch in names:
        nll_B, tokens_B = outputs.row_nll[branch], outputs.row_tokens[branch]
        assert nll_B.shape == tokens_B.shape == (len(batch),)
        assert not nll_B.requires_grad
        assert nll_B.isfinite().all()
        assert tokens_B.sum().item() == objective.counts(batch)[branch]
        assert not nll_B[tokens_B == 0].any()
    total(outputs).backward()
    for parameter_name, parameter in objective.named_parameters():
        assert parameter.grad is not None, f"{parameter_name} took no part"
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", ["placeholders", "weights of zero"])
def test_placeholders_train_nothing(name: str) -> None:
    objective = build()
    total(outputs_of(objective, BATCHES[name], 3)).backward()
    assert not any(parameter.grad.any() for parameter in objective.parameters())


def test_a_placeholder_among_examples_changes_nothing() -> None:
    """Not even as a negative of the contrastive term."""
    objective, batch = build(), random_batch(rows=5)
    without = take_rows(batch, slice(4))
    weight_B = torch.tensor([1.0, 1, 1, 1, 0])
    with_it = outputs_of(objective, dataclasses.replace(batch, weight_B=weight_B), 3)
    for name, term in outputs_of(objective, without, 3).terms.items():
        assert with_it.terms[name].count == term.count
        torch.testing.assert_close(with_it.terms[name].sum, term.sum)


def test_sums_do_not_depend_on_how_groups_are_split_into_micro_batches() -> None:
    objective, batch = build(), random_batch(rows=6, groups=2)
    halves = [take_rows(batch, half) for half in (slice(0, 3), slice(3, 6))]
    parts = [outputs_of(objective, half, 3).terms for half in halves]
    for name, term in outputs_of(objective, batch, 3).terms.items():
        torch.testing.assert_close(term.sum, parts[0][name].sum + parts[1][name].sum)
        assert term.count == parts[0][name].count + parts[1][name].count


def test_row_nll_is_the_networks() -> None:
    objective, batch = build(), random_batch(rows=6)
    outputs = outputs_of(objective, batch, 3)
    with torch.no_grad():
        teacher, teacher_tokens = objective.network.row_nll(batch, "target")
        student, _ = objective.network.row_nll(batch, "source")
    torch.testing.assert_close(outputs.row_nll["mms"], teacher)
    assert torch.equal(outputs.row_tokens["mms"], teacher_tokens)
    torch.testing.assert_close(outputs.row_nll["mxls"], student * batch.cross_B)


def test_weights_follow_the_step() -> None:
    objective, batch = build(beta=0.3), random_batch()
    terms = {step: outputs_of(objective, batch, step).terms for step in (0, 1000, 9000)}
    weights = {step: {name: term.weight for name, term in of_step.items()} for step, of_step in terms.items()}
    expected = {0: (1.0, 0.0), 1000: (0.8, 0.2), 9000: (0.5, 0.5)}
    for step, (to_student, to_teacher) in expected.items():
        assert weights[step]["kd_teacher_to_student"] == pytest.approx(to_student)
        assert weights[step]["kd_student_to_teacher"] == pytest.approx(to_teacher)
        assert (weights[step]["mms"], weights[step]["mxls"], weights[step]["tco"]) == (1, 1, 0.3)
    assert outputs_of(objective, batch, 1000).scalars == {"alpha": pytest.approx(0.8)}


def test_one_call_of_each_module(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, calls = build(), []
    network = objective.network
    for module, method in ((network.backbone, "encode"), (network.backbone, "decode")):
        run = getattr(module, method)
        monkeypatch.setattr(module, method, lambda *given, run=run, name=method: (calls.append(name), run(*given))[1])
    for name, module in (("vision", network.vision), ("fusion", network.fusion)):
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    outputs_of(objective, random_batch(), 3)
    assert sorted(calls) == ["decode", "encode", "fusion", "vision"]


def test_monolingual_rows_cost_no_student() -> None:
    """About half of M3Sum's examples are monolingual: their source document is not read a second time."""
    batch = random_batch()
    arranged = arrange(Arrangement(batch), batch, D2TVConfig()).arranged()
    assert arranged.main.texts == len(batch) + int(batch.cross_B.sum())


def test_no_logits_are_kept_for_backward() -> None:
    """At 250,112 words they would be most of the memory of a step."""
    objective, batch, sizes = build(), random_batch(rows=8, summary=20, full=True), []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs_of(objective, batch, 3)
    tokens = int(objective.counts(batch)["mms"])
    assert sizes
    assert not any(len(size) > 1 and size[-1] == 50 and size[:-1].numel() >= tokens for size in sizes)


def test_without_vision_no_visual_parameter_exists() -> None:
    network = Network(tiny_config(vision=False), 50, PAD_ID, EOS_ID)
    objective = D2TV(D2TVConfig(contrast=False), network)
    assert all(name.startswith("network.backbone.") for name, _ in objective.named_parameters())
    total(outputs_of(objective, random_batch(), 3)).backward()


def test_features_that_do_not_fit_are_an_input_error() -> None:
    with pytest.raises(InputError, match=r"4 images an article do not fit network\.vision\.max_images 3"):
        outputs_of(build(), random_batch(images=4), 0)
    with pytest.raises(InputError, match="feature_size 12"):
        outputs_of(build(), random_batch(features=13), 0)
