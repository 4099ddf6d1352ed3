"""Hold early fusion against transformers' own encoders over inputs put together by hand, one at a time, in float64."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import Decoding, FusionConfig
from models.early_fusion import EarlyNetwork
from models.network import Network, real_rows
from models.objectives.d2tv import D2TV, D2TVConfig
from models.shapes import VisualInputs
from models.synthetic import EOS_ID, PAD_ID, random_batch, same_target, tiny_config
from shards.batch.fields import PICTURE_SIDE
from shards.batch.types import Batch
from shards.errors import InputError
from tests.numerics.test_sharing import assert_same, run
from tests.unit.models.test_marked_texts import MBART

#: transformers' mT5 takes its norms in float32.
BACKBONES = {"mt5": 2e-6, "mbart": 1e-12}


def build(backbone: str, inputs: VisualInputs = "regions") -> EarlyNetwork:
    torch.manual_seed(0)
    config = tiny_config()
    vision = config.vision.model_copy(update={"inputs": inputs})
    config = config.model_copy(update={"fusion": FusionConfig(kind="early"), "vision": vision})
    if backbone == "mbart":
        positions = 40 if inputs == "regions" else 200
        config = config.model_copy(update={"text": MBART.model_copy(update={"max_position_embeddings": positions})})
    network = EarlyNetwork(config, 50, PAD_ID, EOS_ID, marks_texts=backbone == "mbart").double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


class Inputs:
    """Compute the states of one input at a time: [CLS] regions [SEP] patches [SEP] [BOS] text, without what is absent.

    read: of some rows, what is read of their images instead of `network.vision.inputs`.
    """

    def __init__(self, network: EarlyNetwork, batch: Batch, read: Mapping[int, VisualInputs] | None = None) -> None:
        self._own, self._batch = dict(network.named_parameters()), batch
        self._inputs, self._read = network.config.vision.inputs, read or {}
        self._special, self._encoder = network.special.weight, network.backbone.model.encoder

    def of(self, ids: Tensor | None, *, image: int | None = None, hidden: Tensor | None = None) -> Tensor:
        """image: the row whose images are read.  hidden: places of the text that [MASK] stands at."""
        own, batch, special, parts = self._own, self._batch, self._special, []
        if image is not None and batch.image_mask_BI[image].any():
            parts.append(special[:1])
            places = batch.image_mask_BI[image].nonzero()[:, 0].tolist()
            read = self._read.get(image, self._inputs)
            for place in places if read != "patches" else ():
                roi_RF, boxes_R4 = batch.roi_BIRV[image, place].double(), batch.boxes_BIR4[image, place].double()
                parts.append(
                    roi_RF @ own["vision.project.weight"].T
                    + own["vision.project.bias"]
                    + boxes_R4 @ own["vision.box.weight"].T
                    + own["vision.box.bias"]
                    + own["vision.image.weight"][place]
                    + own["vision.region.weight"]
                )
            if read == "both":
                parts.append(special[1:2])
            for place in places if read != "regions" else ():
                assert batch.pixels_BIHWC is not None
                for patch in range(49):
                    top, left = 32 * (patch // 7), 32 * (patch % 7)
                    square = batch.pixels_BIHWC[image, place, top : top + 32, left : left + 32].double() / 127.5 - 1
                    parts.append(
                        (own["patches.project.weight"] @ square.flatten())[None]
                        + own["patches.project.bias"]
                        + own["patches.patch.weight"][patch]
                        + own["patches.image.weight"][place]
                    )
            if ids is not None:
                parts.append(special[1:2])
        if ids is not None:
            words = self._encoder.embed_tokens(ids)
            if hidden is not None:
                words = words.index_copy(0, hidden, special[3:4].expand(len(hidden), -1))
            parts += [special[2:3], words]
        states: Tensor = self._encoder(inputs_embeds=torch.cat(parts)[None]).last_hidden_state[0]
        return states


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("read", ["regions", "patches", "both"])
def test_states_are_those_of_each_input_by_itself(backbone: str, read: VisualInputs) -> None:
    network, batch = build(backbone, read).eval(), random_batch(rows=6, seed=3, picture_side=PICTURE_SIDE)
    inputs = Inputs(network, batch)
    arrangement = network.arrangement(batch)
    arrangement.decode("own", "source", real_rows(batch))
    arrangement.encode("summary", "summary", real_rows(batch))
    arrangement.images()
    on_host = arrangement.arranged()
    states = network.states(batch, network.place(on_host))
    layout = on_host.main.cross.keys
    memory_PLD = layout.pad(states.memory_TD)
    assert len({memory for memory in on_host.main.parts["own"].memory_B.tolist() if memory >= 0}) > 1
    of_summaries = on_host.encoded["summary"].means(states.texts_TD)
    for row in real_rows(batch):
        document = batch.source_ids_BM[row][batch.source_mask_BM[row]]
        expected = inputs.of(document, image=row)
        memory = int(on_host.main.parts["own"].memory_B[row])
        torch.testing.assert_close(memory_PLD[memory, : len(expected)], expected, rtol=0, atol=BACKBONES[backbone])
        summary = batch.summary_ids_BN[row][batch.summary_mask_BN[row]]
        if network.marks_texts:
            summary = torch.cat((batch.start_B[row : row + 1], summary))
        expected = inputs.of(summary).mean(dim=0)
        torch.testing.assert_close(of_summaries[row], expected, rtol=0, atol=BACKBONES[backbone])
        if batch.image_mask_BI[row].any():
            assert states.visual_SV is not None
            own = on_host.pool_images[on_host.sequence_B[row]].bool()
            expected = inputs.of(None, image=row)[1:]
            if read == "both":  # without the [SEP] between
                regions = int(batch.image_mask_BI[row].sum()) * batch.roi_BIRV.shape[2]
                expected = torch.cat((expected[:regions], expected[regions + 1 :]))
            torch.testing.assert_close(states.visual_SV[own], expected, rtol=0, atol=BACKBONES[backbone])


def test_images_are_read_as_their_rows_say() -> None:
    """An image that two rows read in different forms is there twice, and embedded once in each."""
    batch = random_batch(rows=4, full=True, seed=3, picture_side=PICTURE_SIDE)
    batch = same_target(batch, 0, 1)  # the rows 0 and 1 show the same images
    read: dict[int, VisualInputs] = {0: "regions", 1: "patches", 2: "both"}
    network = build("mbart", "both").eval()
    arrangement = network.arrangement(batch, inputs=read)
    rows = range(4)
    arrangement.decode("own", "source", rows)
    arrangement.encode("name", "summary", rows, images=rows)
    assert arrangement.lengths().embedded == {"regions": 9, "patches": 9}
    arranged = network.place(arrangement.arranged())
    states, inputs = network.states(batch, arranged), Inputs(network, batch, read)
    for row in rows:
        summary = torch.cat((batch.start_B[row : row + 1], batch.summary_ids_BN[row][batch.summary_mask_BN[row]]))
        expected = inputs.of(summary, image=row)[0]
        found = states.texts_TD[arranged.encoded["name"].first_B[row]]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_patches_without_pixels_are_refused() -> None:
    network, batch = build("mt5", "patches"), random_batch(rows=2)
    with pytest.raises(InputError, match="no pixels, which the network reads as patches"):
        network.row_nll(batch)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_d2tv_shares_what_rows_have_in_common(backbone: str) -> None:
    found = []
    for share in (True, False):
        objective = D2TV(D2TVConfig(alpha_steps=100), build(backbone), share=share).double()
        found.append(run(objective, random_batch(rows=6, groups=2, seed=2)))
    assert_same(*found)
    assert all(gradient.abs().sum() > 0 for name, gradient in found[0][1].items() if "special" in name)


def test_every_parameter_takes_part_where_no_row_has_an_image() -> None:
    batch = random_batch(rows=4)
    batch = dataclasses.replace(batch, image_mask_BI=torch.zeros_like(batch.image_mask_BI))
    objective = D2TV(D2TVConfig(), build("mt5")).double()
    _, gradients = run(objective, batch)
    assert gradients.keys() == dict(objective.named_parameters()).keys()


def test_generation_reads_images_and_words() -> None:
    network, batch = build("mt5").eval(), random_batch(rows=5, seed=4)
    decoding = Decoding(num_beams=1, max_new_tokens=6)
    ids_BN, inputs = network.generate(batch, decoding), Inputs(network, batch)
    for row in real_rows(batch):
        states = inputs.of(batch.source_ids_BM[row][batch.source_mask_BM[row]], image=row)
        words: list[int] = [int(batch.start_B[row])]
        while len(words) < 7 and words[-1] != EOS_ID:
            decoded: Any = network.backbone.model.decoder(
                input_ids=torch.tensor([words]), encoder_hidden_states=states[None], use_cache=False
            )
            words.append(int(network.logits(decoded.last_hidden_state[0, -1]).argmax()))
        assert ids_BN[row][: len(words) - 1].tolist() == words[1:]
    blind = dataclasses.replace(batch, image_mask_BI=torch.zeros_like(batch.image_mask_BI))
    assert not torch.equal(network.generate(blind, decoding), ids_BN)


def test_operations_count_the_regions_that_the_encoder_reads() -> None:
    """An input of L words and K regions costs what a text of L + K + 3 does, and the regions' way to its width."""
    network, batch = build("mt5"), random_batch(rows=1, full=True, seed=1)
    objective = D2TV(D2TVConfig(branches="mms", distillation="none", contrast=False), network)
    vision, width = network.config.vision, network.hidden_size
    regions = int(batch.image_mask_BI.sum()) * vision.regions
    arrangement = network.arrangement(batch)
    arrangement.decode("mms", "target", [0])
    assert arrangement.lengths().documents == [int(batch.target_mask_BM.sum()) + regions + 3]
    late = Network(tiny_config(), 50, PAD_ID, EOS_ID).arrangement(batch)
    late.decode("mms", "target", [0])
    assert late.lengths().documents == [int(batch.target_mask_BM.sum())]
    found = network.flops(arrangement)
    assert (found.vision, found.fusion) == (regions * 2 * width * (vision.feature_size + 4), 0)
    assert objective.flops(batch) == found.training
