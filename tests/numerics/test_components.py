"""Each module of section 2.2 by itself against the paper's loops, forward and gradient, in float64."""

from collections.abc import Sequence

import pytest
import reference
import torch
from torch import Tensor, nn
from transformers import MT5ForConditionalGeneration

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.fusion import Fusion
from models.network import Network
from models.ragged import Layout, cross_layout
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from models.vision import VisualEncoder
from shards.batch.types import Batch


def noisy(module: nn.Module) -> nn.Module:
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{name}": p for name, p in module.named_parameters()}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def arranged_source(batch: Batch, *, summaries: bool = False, dtype: torch.dtype = torch.float64) -> Arranged:
    """Arrange every row's source document, as a student reads it."""
    arrangement = Arrangement(batch)
    arrangement.decode("student", "source", range(len(batch)))
    if summaries:
        arrangement.encode("summary", "summary", range(len(batch)))
    return arrangement.arranged().to(torch.device("cpu"), dtype)


@pytest.mark.parametrize("hidden_size", [None, 8])
def test_region_embeddings(hidden_size: int | None) -> None:
    encoder = noisy(VisualEncoder(tiny_config(hidden_size=hidden_size).vision))
    batch = random_batch()
    place = torch.arange(3).repeat(4)
    ours = encoder.embed(batch.roi_BIRV.flatten(0, 1), batch.boxes_BIR4.flatten(0, 1), place)
    ours = ours.view(4, 3 * 4, -1)
    for b in range(len(batch)):
        theirs = reference.embed_regions(
            named("vision.", encoder), batch.roi_BIRV[b].double(), batch.boxes_BIR4[b].double()
        )
        torch.testing.assert_close(ours[b], theirs)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_visual_encoder_of_the_images_there_are(training: bool) -> None:
    network = noisy(Network(tiny_config(), 50, PAD_ID, EOS_ID)).train(training)
    config = network.config.vision
    batch = random_batch(rows=7)
    arranged = arranged_source(batch)
    with torch.set_grad_enabled(training):
        visual = network.encode_vision(batch, arranged)
    parameters = named("", network)
    seen = 0
    for b in range(len(batch)):
        images = batch.image_mask_BI[b]
        if images.any():
            v = reference.embed_regions(
                parameters, batch.roi_BIRV[b][images].double(), batch.boxes_BIR4[b][images].double()
            )
            theirs = reference.encode_vision(parameters, v, config.num_layers, config.num_heads)
            ours = visual[arranged.pool_images[arranged.sequence_B[b]].bool()]
            torch.testing.assert_close(ours, theirs)
            seen += len(theirs)
    assert seen == len(visual), "nothing is computed but real images"


#: Three texts of 5, 3 and 4 tokens; the second looks at two image sequences' first, the third at nothing.
TEXTS, SEQUENCES = [5, 3, 4], [6, 4]


def fusion_inputs(looking: Sequence[int]) -> tuple[Tensor, Tensor, Layout, Tensor]:
    text = torch.randn(sum(TEXTS), 16, dtype=torch.float64, requires_grad=True)
    states = torch.randn(sum(SEQUENCES), 12, dtype=torch.float64, requires_grad=True)
    layout = cross_layout(TEXTS, looking, SEQUENCES).to(torch.device("cpu"), torch.float64)
    seen = torch.tensor([number >= 0 for number in looking]).repeat_interleave(torch.tensor(TEXTS))[:, None]
    return text, states, layout, seen


@pytest.mark.parametrize("looking", [(0, 1, -1), (1, 1, 0), (1, 0, 1), (-1, -1, 0)])
def test_cross_modal_attention_gate_and_projection(looking: Sequence[int]) -> None:
    """Texts may share an image sequence, or have none: then they attend to nothing."""
    fusion = noisy(Fusion(tiny_config().fusion, 16, 12))
    text, visual, layout, seen = fusion_inputs(looking)
    attended, fused = fusion.attend(text, visual, layout, seen), fusion(text, visual, layout, seen)
    parameters = named("fusion.", fusion)
    expected_m, expected = [], []
    for states, number in zip(text.split(TEXTS), looking, strict=True):
        regions = visual.split(SEQUENCES)[number] if number >= 0 else None
        expected_m.append(reference.cross_modal_attention(parameters, states, regions, heads=2))
        expected.append(reference.fuse(parameters, states, expected_m[-1]))
    torch.testing.assert_close(attended, torch.cat(expected_m))
    torch.testing.assert_close(fused, torch.cat(expected))
    weight = torch.randn_like(fused)
    wrt = [text, visual, *fusion.parameters()]
    ours = torch.autograd.grad((fused * weight).sum(), wrt, retain_graph=True)
    theirs = torch.autograd.grad((torch.cat(expected) * weight).sum(), wrt)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_text_passes_through_the_fusion_at_init() -> None:
    fusion = Fusion(tiny_config().fusion, 16, 12).double()
    text, visual, layout, seen = fusion_inputs((0, 1, -1))
    assert torch.equal(fusion(text, visual, layout, seen), text), "W_z = [I; 0] keeps every row's text at step 0"


def test_a_fusion_that_sees_at_init_adds_what_passes_the_gate() -> None:
    config = tiny_config().fusion
    fusion = Fusion(config.model_copy(update={"visual_start": 3.0}), 16, 12).double()
    text, visual, layout, seen = fusion_inputs((0, 1, -1))
    attended = fusion.attend(text, visual, layout, seen)
    passed = torch.sigmoid(fusion.gate(torch.cat((text, attended), dim=-1))) * attended
    added = (fusion(text, visual, layout, seen) - text)[:, : config.hidden_size]
    torch.testing.assert_close(added, 3 * passed)


def test_scaled_features_start_alike_and_move_less() -> None:
    """The first states are those of unscaled features; a change of all first weights by one number moves them less."""
    states = []
    for scale in (1.0, 0.25):
        torch.manual_seed(0)
        config = tiny_config().vision.model_copy(update={"hidden_size": 8, "feature_scale": scale})
        encoder = VisualEncoder(config).double()
        features, boxes, place = torch.rand(2, 4, 12), torch.rand(2, 4, 4), torch.tensor([0, 1])
        before = encoder.embed(features, boxes, place)
        assert encoder.project is not None
        with torch.no_grad():
            encoder.project.weight.add_(0.01)
        states.append((before, encoder.embed(features, boxes, place) - before))
    (plain, plain_move), (scaled, scaled_move) = states
    torch.testing.assert_close(scaled, plain)
    torch.testing.assert_close(scaled_move, plain_move / 4)


def test_decoder_states_and_word_probabilities() -> None:
    """Eq. 1 and the softmax layer below it, on a memory of given states."""
    network = noisy(Network(tiny_config(), 50, PAD_ID, EOS_ID))
    batch = random_batch()
    arranged = arranged_source(batch)
    memory = torch.randn(arranged.document_tokens, 16, dtype=torch.float64)
    hidden = network.decode(memory, arranged.main)
    parameters = named("", network)
    documents = memory.split(batch.source_mask_BM.sum(dim=1).tolist())
    summaries = hidden.split(batch.summary_mask_BN.sum(dim=1).tolist())
    for b in range(4):
        summary = batch.summary_ids_BN[b][batch.summary_mask_BN[b]]
        shifted = torch.cat((batch.start_B[b : b + 1], summary[:-1]))
        states = reference.decode(parameters, shifted, documents[b], 2, 4)
        torch.testing.assert_close(summaries[b], states, rtol=1e-5, atol=1e-6)
        ours = network.logits(summaries[b]).softmax(dim=-1)
        theirs = reference.softmax(reference.linear(parameters, "backbone.head", states))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("images", ["all images masked", "images, W_z at init"])
def test_logits_equal_transformers_own(images: str) -> None:
    """At step 0 the network is the backbone it was built from."""
    network = Network(tiny_config(), 50, PAD_ID, EOS_ID).eval()
    batch = random_batch()
    if images.startswith("all"):
        batch.image_mask_BI.zero_()
    model = MT5ForConditionalGeneration(network.backbone.model.config).eval()
    model.load_state_dict(network.backbone.model.state_dict(), strict=False)
    model.lm_head.weight = nn.Parameter(network.backbone.head.weight.detach().clone())
    arranged = arranged_source(batch, dtype=torch.float32)
    ours = network.logits(network.states(batch, arranged).hidden_TD)
    theirs = model(
        input_ids=batch.source_ids_BM,
        attention_mask=batch.source_mask_BM,
        decoder_input_ids=torch.cat((batch.start_B[:, None], batch.summary_ids_BN[:, :-1]), dim=1),
    ).logits
    torch.testing.assert_close(ours, theirs[batch.summary_mask_BN], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("document", "summary", "rows"), [(9, 5, 4), (13, 3, 7), (3, 8, 3), (8, 4, 1), (40, 6, 12)])
def test_one_encoder_call_gives_the_states_of_separate_calls(document: int, summary: int, rows: int) -> None:
    """Packing several texts into a row leaves each one's states as if it were alone."""
    network = noisy(Network(tiny_config(), 50, PAD_ID, EOS_ID))
    batch = random_batch(rows=rows, document=document, summary=summary)
    arranged = arranged_source(batch, summaries=True)
    states = network.encode(arranged)
    parameters = named("", network)
    texts = [batch.source_ids_BM[b][batch.source_mask_BM[b]] for b in range(rows)]
    texts += [batch.summary_ids_BN[b][batch.summary_mask_BN[b]] for b in range(rows)]
    for ours, ids in zip(states.split([len(ids) for ids in texts]), texts, strict=True):
        torch.testing.assert_close(ours, reference.encode_text(parameters, ids, 2, 4), rtol=1e-5, atol=1e-6)
