"""Each module of section 2.2 by itself against the paper's loops, forward and gradient, in float64."""

import pytest
import reference
import torch
from torch import Tensor, nn
from transformers import MT5ForConditionalGeneration

from models.fusion import Fusion
from models.network import Network
from models.packing import Tokens
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from models.vision import Visual, VisualEncoder


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


@pytest.mark.parametrize("hidden_size", [None, 8])
def test_region_embeddings(hidden_size: int | None) -> None:
    encoder = noisy(VisualEncoder(tiny_config(hidden_size=hidden_size).vision))
    batch = random_batch()
    ours = encoder.embed(batch.roi_BIRV, batch.boxes_BIR4).flatten(1, 2)
    for b in range(len(batch)):
        theirs = reference.embed_regions(
            named("vision.", encoder), batch.roi_BIRV[b].double(), batch.boxes_BIR4[b].double()
        )
        torch.testing.assert_close(ours[b], theirs)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_visual_encoder_of_masked_rows(training: bool) -> None:
    """In eval torch takes another code path (the fused layer), which must agree as well."""
    config = tiny_config().vision
    encoder = noisy(VisualEncoder(config)).train(training)
    batch = random_batch()
    with torch.set_grad_enabled(training):
        visual = encoder(batch.roi_BIRV, batch.boxes_BIR4, batch.image_mask_BI)
    assert visual.states_BKV.isfinite().all()
    assert torch.equal(visual.mask_BK.sum(dim=1), batch.image_mask_BI.sum(dim=1) * 4)
    parameters = named("vision.", encoder)
    for b in range(len(batch)):
        images = batch.image_mask_BI[b]
        if images.any():
            v = reference.embed_regions(
                parameters, batch.roi_BIRV[b][images].double(), batch.boxes_BIR4[b][images].double()
            )
            theirs = reference.encode_vision(parameters, v, config.num_layers, config.num_heads)
            torch.testing.assert_close(visual.states_BKV[b][visual.mask_BK[b]], theirs)


def fusion_inputs() -> tuple[Tensor, Visual]:
    text = torch.randn(3, 5, 16, dtype=torch.float64, requires_grad=True)
    states = torch.randn(3, 6, 12, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [0] * 6]).bool()
    return text, Visual(states, mask)


def test_cross_modal_attention_gate_and_projection() -> None:
    fusion = noisy(Fusion(tiny_config().fusion, 16, 12))
    text, visual = fusion_inputs()
    attended, fused = fusion.attend(text, visual, None), fusion(text, visual)
    parameters = named("fusion.", fusion)
    expected = []
    for b in range(3):
        seen = visual.states_BKV[b][visual.mask_BK[b]]
        m = reference.cross_modal_attention(parameters, text[b], seen if len(seen) else None, heads=2)
        torch.testing.assert_close(attended[b], m)
        expected.append(reference.fuse(parameters, text[b], m))
        torch.testing.assert_close(fused[b], expected[b])
    weight = torch.randn_like(fused)
    wrt = [text, visual.states_BKV, *fusion.parameters()]
    ours = torch.autograd.grad((fused * weight).sum(), wrt, retain_graph=True)
    theirs = torch.autograd.grad((torch.stack(expected) * weight).sum(), wrt)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_a_row_without_images_attends_to_nothing_and_passes_text_through_at_init() -> None:
    fusion = Fusion(tiny_config().fusion, 16, 12).double()
    text, visual = fusion_inputs()
    assert not fusion.attend(text, visual, None)[2].any()
    assert torch.equal(fusion(text, visual), text), "W_z = [I; 0] keeps every row's text at step 0"


def test_texts_may_share_an_image_sequence() -> None:
    fusion = noisy(Fusion(tiny_config().fusion, 16, 12))
    text, visual = fusion_inputs()
    rows = torch.tensor([1, 0, 1])
    repeated = Visual(visual.states_BKV[rows], visual.mask_BK[rows])
    torch.testing.assert_close(fusion(text, visual, rows), fusion(text, repeated))


def test_decoder_states_and_word_probabilities() -> None:
    """Eq. 1 and the softmax layer below it, on a memory of given states."""
    network = noisy(Network(tiny_config(), 50, PAD_ID, EOS_ID))
    batch = random_batch()
    memory = torch.randn(4, 9, 16, dtype=torch.float64)
    hidden = network.decode(batch.start_B, batch.summary_ids_BN, batch.summary_mask_BN, memory, batch.source_mask_BM)
    parameters = named("", network)
    for b in range(4):
        summary = batch.summary_ids_BN[b][batch.summary_mask_BN[b]]
        shifted = torch.cat((batch.start_B[b : b + 1], summary[:-1]))
        states = reference.decode(parameters, shifted, memory[b][batch.source_mask_BM[b]], 2, 4)
        torch.testing.assert_close(hidden[b, : len(summary)], states, rtol=1e-5, atol=1e-6)
        ours = network.logits(hidden[b, : len(summary)]).softmax(dim=-1)
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
    memory, mask = network.memory(batch, "source")
    ours = network.logits(network.decode(batch.start_B, batch.summary_ids_BN, batch.summary_mask_BN, memory, mask))
    theirs = model(
        input_ids=batch.source_ids_BM,
        attention_mask=batch.source_mask_BM,
        decoder_input_ids=torch.cat((batch.start_B[:, None], batch.summary_ids_BN[:, :-1]), dim=1),
    ).logits
    real = batch.summary_mask_BN
    torch.testing.assert_close(ours[real], theirs[real], rtol=1e-5, atol=1e-5)


def test_one_encoder_call_gives_the_states_of_separate_calls() -> None:
    """Packing several summaries into a row leaves each one's states as if it were alone."""
    network = noisy(Network(tiny_config(), 50, PAD_ID, EOS_ID))
    for document, summary, rows in ((9, 5, 4), (13, 3, 7), (3, 8, 3), (8, 4, 1)):
        batch = random_batch(rows=rows, document=document, summary=summary)
        source = (batch.source_ids_BM, batch.source_mask_BM)
        short = (batch.summary_ids_BN, batch.summary_mask_BN)
        states, mask, summaries = network.encode_texts([Tokens(*source)], Tokens(*short))
        assert summaries is not None
        assert torch.equal(mask[:, :document], source[1])
        alone = network.encode_text(*source)
        torch.testing.assert_close(states[:, :document][source[1]], alone[source[1]], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(summaries[short[1]], network.encode_text(*short)[short[1]], rtol=1e-5, atol=1e-6)
