"""The counted operations of a step: against the project's figures for mT5-base, against torch's counter, and masks."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import MBartConfig, MT5Config

from benchmarks.plain_d2tv import PlainD2TV
from models.arrangement import Arrangement
from models.config import NetworkConfig, TextConfig
from models.flops import BackboneSizes, Flops, decoder_flops, encoder_flops, fusion_flops, vision_flops
from models.network import Network
from models.objectives.across import Across
from models.objectives.across_config import AcrossConfig
from models.objectives.d2tv import D2TV, D2TVConfig, arrange, step_flops
from models.synthetic import EOS_ID, PAD_ID, random_batch, same_target, tiny_config
from shards.batch.types import Batch

BASE = BackboneSizes.of(
    MT5Config(vocab_size=250_112, d_model=768, d_ff=2048, d_kv=64, num_heads=12, num_layers=12, num_decoder_layers=12)
)
BASE_NETWORK = NetworkConfig(text=TextConfig(pretrained="google/mt5-base"))
TINY = BackboneSizes.of(MT5Config(vocab_size=50, d_model=16, d_ff=24, d_kv=4, num_heads=4, num_layers=2))


def flops_of(
    batch: Batch, network: NetworkConfig, sizes: BackboneSizes, *, share: bool = False, **flags: bool | str
) -> Flops:
    """Count a step without distillation; every row on its own unless `share`."""
    config = D2TVConfig(**{"distillation": "none", "contrast": True} | flags)
    return step_flops(arrange(Arrangement(batch, share=share), batch, config), config, network, sizes)


def full_batch(rows: int, document: int, summary: int, **sizes: int) -> Batch:
    """Cross-lingual rows whose documents are both of full length, with all images."""
    batch = random_batch(rows=rows, document=document, summary=summary, full=True, **sizes)
    return dataclasses.replace(batch, target_ids_BM=batch.source_ids_BM, target_mask_BM=batch.source_mask_BM)


def test_parts_of_mt5_base_are_the_known_ones() -> None:
    """512 and 84 tokens, 180 regions; the known figures are rounded to 0.1 GF."""
    keys_and_values = 4 * 2048 * 256 * 180
    memory = 12 * 4 * 768 * 768 * 512
    assert vision_flops(5, BASE_NETWORK) / 1e9 == pytest.approx(37.3, abs=0.06)
    assert encoder_flops(512, BASE) / 1e9 == pytest.approx(96.6, abs=0.06)
    assert encoder_flops(84, BASE) / 1e9 == pytest.approx(14.5, abs=0.06)
    assert (fusion_flops(512, 5, BASE_NETWORK, BASE) + keys_and_values) / 1e9 == pytest.approx(1.8, abs=0.06)
    assert (decoder_flops(512, 84, BASE) - memory) / 1e9 == pytest.approx(18.4, abs=0.06)
    assert memory / 1e9 == pytest.approx(14.5, abs=0.06)


@pytest.mark.parametrize(
    ("branches", "contrast", "known"), [("mxls", False, 200.8), ("both", False, 363.9), ("both", True, 379.0)]
)
def test_steps_of_mt5_base_are_the_known_ones(branches: str, contrast: bool, known: float) -> None:
    batch = full_batch(1, 512, 84, images=5, regions=36, features=2048)
    found = flops_of(batch, BASE_NETWORK, BASE, branches=branches, contrast=contrast)
    assert found.forward / 1e9 == pytest.approx(known, rel=2e-3)
    assert found.training == 3 * found.forward


@pytest.mark.parametrize("hidden_size", [None, 8])
def test_equals_what_torch_counts(hidden_size: int | None) -> None:
    """Of the plain step without padding, less what that does in vain."""
    rows, document, summary = 4, 9, 5
    config, batch = tiny_config(hidden_size=hidden_size), full_batch(rows, document, summary)
    plain = PlainD2TV(config, 50, pad_id=PAD_ID, document=document, summary=summary)
    # The fused kernels of the CPU are not in torch's table.
    with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
        loss = plain(batch, 0)
    with FlopCounterMode(display=False) as backward, sdpa_kernel(SDPBackend.MATH):
        loss.backward()

    vision, common, layers = config.vision.width, config.fusion.hidden_size, TINY.decoder_layers
    future = 2 * rows * layers * 4 * TINY.heads * summary * (summary - 1) // 2
    second_keys_and_values = rows * 12 * 4 * vision * common
    layer_of_every_region = rows * (12 - 1) * 2 * vision * TINY.hidden
    scores = 2 * rows * rows * TINY.hidden
    counted = flops_of(batch, config, TINY)
    in_vain = future + second_keys_and_values + layer_of_every_region
    assert forward.get_total_flops() == counted.forward + in_vain + scores
    # Features and boxes are no parameters, so their projections have no second product.
    inputs = rows * 12 * 2 * vision * (4 + (0 if hidden_size is None else config.vision.feature_size))
    assert backward.get_total_flops() == 2 * forward.get_total_flops() - inputs


def test_padding_placeholders_and_monolingual_rows_cost_nothing() -> None:
    """A row alone, and in a wider batch; a placeholder's row adds nothing, a monolingual one no student."""
    config = tiny_config()
    batch = random_batch(rows=5, seed=2)

    def of(changed: Batch, **flags: bool | str) -> Flops:
        return flops_of(changed, config, TINY, **flags)

    def rows(kept: list[int]) -> Batch:
        weight_B = torch.zeros(len(batch))
        weight_B[kept] = 1.0
        return dataclasses.replace(batch, weight_B=weight_B)

    alone = [of(rows([row])) for row in range(len(batch))]
    for part in dataclasses.fields(Flops):
        together = sum(getattr(flops, part.name) for flops in alone)
        assert getattr(of(batch), part.name) == together, part.name
    assert of(rows([])).forward == 0
    assert not batch.cross_B[2]
    assert of(rows([2])).decoder == of(rows([2]), branches="mms").decoder
    assert of(rows([2]), branches="mxls").decoder == 0
    assert of(rows([2])).vision == of(rows([2])).own == 0  # it has no images
    assert of(batch, contrast=False).texts == 0


def test_what_rows_have_in_common_counts_once() -> None:
    """Two sources of one target article: one teacher, one image sequence, two students; other rows as before."""
    config = tiny_config()
    batch = random_batch(rows=4, full=True)
    batch = dataclasses.replace(same_target(batch, 0, 1), source_language_B=torch.tensor([1, 2, 1, 1]))

    def of(rows: list[int], **flags: bool | str) -> Flops:
        weight_B = torch.zeros(4)
        weight_B[rows] = 1.0
        return flops_of(dataclasses.replace(batch, weight_B=weight_B), config, TINY, **flags)

    both, first, second = of([0, 1], share=True), of([0]), of([1])
    student = of([1], branches="mxls", contrast=False)
    assert both.vision == first.vision
    assert both.texts == first.texts
    assert both.own == first.own
    for part in ("documents", "decoder", "head"):
        assert getattr(both, part) == getattr(first, part) + getattr(student, part), part
    assert of([0, 1]).forward == first.forward + second.forward > both.forward
    assert of([2, 3], share=True) == of([2, 3])


def test_without_vision() -> None:
    found = flops_of(random_batch(), tiny_config(vision=False), TINY, contrast=False)
    assert found.vision == found.fusion == found.own == 0
    assert found.documents > 0


def test_sizes_of_mbart_50() -> None:
    """Layers of 1024 and 4096, not gated."""
    sizes = BackboneSizes.of(MBartConfig(vocab_size=250_054))
    assert (sizes.hidden, sizes.heads, sizes.encoder_ffn, sizes.ffn_matrices) == (1024, 1024, 4096, 2)
    parameters = 12 * (4 * 1024**2 + 2 * 1024 * 4096)
    assert encoder_flops(1, sizes) == 2 * parameters + 12 * 4 * 1024


@pytest.mark.parametrize(
    ("flags", "counted"),
    [
        ({}, {}),
        ({"branches": "mms", "distillation": "none", "contrast": False}, {"branches": "mms", "contrast": False}),
    ],
)
def test_an_objective_counts_what_it_trains(flags: dict[str, Any], counted: dict[str, Any]) -> None:
    """Forward and backward, under its own flags; every row on its own where it computes them so."""
    network = Network(tiny_config(), 50, PAD_ID, EOS_ID)
    sizes = BackboneSizes.of(network.backbone.model.config)
    batch = same_target(random_batch(rows=4, full=True), 0, 1)
    for share in (True, False):
        objective = D2TV(D2TVConfig(**flags), network, share=share)
        expected = flops_of(batch, tiny_config(), sizes, share=share, **counted)
        assert objective.flops(batch) == 3 * expected.forward


def test_a_frozen_network_costs_its_forward_pass_alone() -> None:
    """ACROSS trains one network from source documents, and asks another for as much as is compared."""
    network, mls = (Network(tiny_config(), 50, PAD_ID, EOS_ID) for _ in range(2))
    batch = same_target(random_batch(rows=4, full=True), 0, 1)
    batch = dataclasses.replace(batch, cross_B=torch.ones(4, dtype=torch.bool))
    trained, asked = (
        flops_of(batch, tiny_config(), TINY, branches=branches, contrast=False, share=True)
        for branches in ("mxls", "mms")
    )
    for flags, frozen in (
        ({}, asked.forward),
        ({"consistency": False}, asked.documents),
        ({"consistency": False, "contrast": False}, 0),
    ):
        objective = Across(AcrossConfig(**flags), network, {"mls": mls})
        assert objective.flops(batch) == 3 * trained.forward + frozen, flags
