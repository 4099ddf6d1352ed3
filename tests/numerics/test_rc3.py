"""RC³, from token ids and regions to every term, J and each gradient, against loops over rows, in float64."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import rc3_reference as reference
import torch
import torch.nn.functional as F
from test_early_fusion import Inputs, build
from torch import Tensor

from models.early_fusion import EarlyNetwork
from models.objectives import rc3
from models.objectives.rc3 import RC3
from models.objectives.rc3_config import RC3Config, Shares
from models.objectives.rc3_roles import kind_of, roles
from models.shapes import VisualInputs
from models.synthetic import random_batch, tiny_config
from shards.batch.fields import PICTURE_SIDE
from shards.batch.types import Batch
from shards.errors import InputError
from tests.support.objectives import outputs_of

#: A group of each kind, as the default shares have them.
GROUPS = {"strict": 0, "weak": 1, "parallel": 3}


def objective_of(backbone: str = "mbart", read: VisualInputs = "regions", **flags: Any) -> RC3:
    """read: of an image, by the network.  flags: of the configuration."""
    network = build(backbone, read)
    objective = RC3(RC3Config(**flags), network).double().eval()
    with torch.no_grad():
        for parameter in objective.match.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def batch_of_groups(*groups: int, rows: int = 4, seed: int = 0, picture_side: int = 0) -> Batch:
    """Cross-lingual rows with images in groups of these numbers; the last two of a group tell one story."""
    batch = random_batch(
        rows=rows * len(groups), full=True, source_summaries=True, summary=6, seed=seed, picture_side=picture_side
    )
    story_B = torch.arange(len(batch))
    story_B[rows - 1 :: rows] = story_B[rows - 2 :: rows]
    return dataclasses.replace(batch, group_B=torch.tensor(groups).repeat_interleave(rows), story_B=story_B)


def hide_every_third(ids: int, share: float) -> Tensor:
    """In place of what is drawn."""
    return (torch.arange(rc3.hidden(ids, share)) * 3) % (ids - 1)


class Row:
    """The texts of one row, and the row that it is compared with."""

    def __init__(self, batch: Batch, row: int, kind: str, marked: bool) -> None:
        """marked: the tokenizer puts a document's language before it."""
        self.row, self.sides = row, {}
        start = {"source": batch.source_start_B, "target": batch.start_B}
        names = {
            "source": (batch.source_summary_ids_BS, batch.source_summary_mask_BS),
            "target": (batch.summary_ids_BN, batch.summary_mask_BN),
        }
        documents = {
            "source": (batch.source_ids_BM, batch.source_mask_BM),
            "target": (batch.target_ids_BM, batch.target_mask_BM),
        }
        for side, (ids, mask) in (documents if kind == "weak" else names).items():
            language = start[side][row : row + (0 if marked and kind == "weak" else 1)]
            self.sides[side] = torch.cat((language, ids[row][mask[row]]))


def expected_terms(objective: RC3, batch: Batch, p: float) -> dict[str, tuple[Tensor, int]]:
    """Each term's sum and count; p: p_avg of both contrasts."""
    network, config = objective.network, objective.config
    assert isinstance(network, EarlyNetwork)
    kinds = {number: kind for kind, number in GROUPS.items()}
    read = {row: dict(config.inputs).get(kinds[number]) for row, number in enumerate(batch.group_B.tolist())}
    inputs = Inputs(network, batch, {row: of for row, of in read.items() if of is not None})
    terms: dict[str, tuple[Tensor, int]] = {}

    def add(name: str, value: Tensor, count: int = 1) -> None:
        total, known = terms.get(name, (torch.zeros((), dtype=torch.float64), 0))
        terms[name] = (total + value, known + count)

    def nll(states: Tensor, ids: list[int]) -> Tensor:
        return F.cross_entropy(network.logits(states), torch.tensor(ids), reduction="sum")

    for number in batch.group_B.unique().tolist():
        kind = next(kind for kind, group in GROUPS.items() if group == number)
        rows = {
            row: Row(batch, row, kind, network.marks_texts)
            for row in (batch.group_B == number).nonzero()[:, 0].tolist()
        }
        for row, own in rows.items():
            others = [other for other in rows if batch.story_B[other] != batch.story_B[row]]
            if kind == "parallel":
                anchor, positive = (inputs.of(own.sides[side])[0] for side in ("source", "target"))
                negatives = [inputs.of(rows[other].sides[side])[0] for side in ("source", "target") for other in others]
                add("xtcl", reference.interpolated_contrast(anchor, positive, negatives, config.slack, p))
                continue
            other = rows[next((other for other in others if other > row), others[0])]
            pair = {
                (text, side, image): inputs.of(of.sides[side], image=shown.row)[0]
                for text, of in (("own", own), ("other", other))
                for side in ("source", "target")
                for image, shown in (("own", own), ("other", other))
            }
            anchor, positive = pair["own", "source", "own"], pair["own", "target", "own"]
            negatives = [state for key, state in pair.items() if key[0] == "other" or key[2] == "other"]
            add("xvtcl", reference.interpolated_contrast(anchor, positive, negatives, config.slack, p))
            three = [positive, pair["other", "source", "own"], pair["other", "target", "own"]]
            if kind == "weak":
                compared = ((own, "target"), (other, "source"), (other, "target"))
                texts = [inputs.of(of.sides[side])[0] for of, side in compared]
                text = inputs.of(own.sides["source"])[0]
                q = [reference.distance(text, one).detach() for one in texts]
                add("relevance", reference.divergence([reference.distance(anchor, one) for one in three], q))
                continue
            match = objective.match
            add("itm", -F.logsigmoid(match(anchor)[0]) - F.logsigmoid(-match(three[1])[0]), 2)
            ids = own.sides["source"]
            places = 1 + hide_every_third(len(ids) - 1, config.masked)
            states = inputs.of(ids, image=row, hidden=places)
            begin = len(states) - len(ids)
            add("mlm", nll(states[begin + places], ids[places].tolist()), len(places))
            target = own.sides["target"].tolist()
            decoded = network.backbone.model.decoder(
                input_ids=torch.tensor([target[:-1]]), encoder_hidden_states=states[None], use_cache=False
            )
            add("mclm", nll(decoded.last_hidden_state[0], target[1:]), len(target) - 1)
    return terms


@pytest.fixture
def _hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rc3, "hide", hide_every_third)
    return iter(())


@pytest.mark.usefixtures("_hidden")
@pytest.mark.parametrize(
    ("backbone", "p", "read", "flags"),
    [
        *((backbone, p, "regions", {}) for backbone in ("mt5", "mbart") for p in (0.0, 0.8)),
        ("mbart", 0.5, "patches", {}),
        ("mbart", 0.5, "both", {"inputs": {"strict": "regions", "weak": "patches"}}),
        ("mt5", 0.5, "both", {"inputs": {"weak": "patches"}}),
    ],
)
def test_terms_loss_and_gradients_equal_the_loops(
    backbone: str, p: float, read: VisualInputs, flags: dict[str, Any]
) -> None:
    """transformers' mT5 takes its norms in float32."""
    objective = objective_of(backbone, read, masked=0.4, **flags)
    batch = batch_of_groups(*GROUPS.values(), picture_side=0 if read == "regions" else PICTURE_SIDE)
    if p:
        objective.textual.add(p)
        objective.visual_textual.add(p)
    expected = expected_terms(objective, batch, p)
    loss = sum(total / count for total, count in expected.values())
    gradients = torch.autograd.grad(loss, list(objective.parameters()), allow_unused=True)
    outputs = outputs_of(objective, batch, 0)
    assert list(outputs.terms) == ["mlm", "mclm", "itm", "xtcl", "xvtcl", "relevance"]
    for name, (total, count) in expected.items():
        assert outputs.terms[name].count == count, name
        torch.testing.assert_close(
            outputs.terms[name].sum.double(), total, rtol=1e-6, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    sum(term.weight * term.sum / term.count for term in outputs.terms.values()).backward()
    for (name, parameter), gradient in zip(objective.named_parameters(), gradients, strict=True):
        theirs = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_an_input_that_several_rows_need_is_encoded_once() -> None:
    """Four rows have 4 anchors, 4 positives and 24 negatives; 4 names with hidden tokens are written from."""
    objective, batch = objective_of(), batch_of_groups(GROUPS["strict"])
    batch = dataclasses.replace(batch, story_B=torch.arange(4))
    of = roles(batch, objective.config.shares)
    assert of.partner == [1, 2, 3, 0]
    lengths = objective._arrange(batch, of, {}).lengths()
    # Pairs of a row's own are another one's negatives with both changed: 8 inputs. With one changed, 8 and 8.
    assert (len(lengths.texts), len(lengths.documents)) == (24, 4)
    assert objective.flops(batch) > 0


def test_a_micro_batch_of_one_kind_has_every_term_and_moves_every_parameter() -> None:
    for group in GROUPS.values():
        objective = objective_of()
        outputs = outputs_of(objective, batch_of_groups(group), 0)
        assert list(outputs.terms) == ["mlm", "mclm", "itm", "xtcl", "xvtcl", "relevance"]
        sum(term.sum for term in outputs.terms.values()).backward()
        assert all(parameter.grad is not None for parameter in objective.parameters())


@pytest.mark.parametrize("without", ["textual_contrast", "contrast", "relevance"])
def test_parts_are_left_out(without: str) -> None:
    objective = objective_of(**{without: False})
    terms = outputs_of(objective, batch_of_groups(*GROUPS.values()), 0).terms
    gone = {"textual_contrast": {"xtcl"}, "contrast": {"xvtcl", "relevance"}, "relevance": {"relevance"}}[without]
    assert {"mlm", "mclm", "itm", "xtcl", "xvtcl", "relevance"} - terms.keys() == gone


def test_rows_without_a_partner_or_an_image_count_nothing() -> None:
    objective = objective_of()
    batch = batch_of_groups(*GROUPS.values())
    alone = dataclasses.replace(batch, story_B=torch.zeros(len(batch), dtype=torch.int64))
    assert objective.counts(alone) == objective.counts(batch) | {"itm": 0, "xtcl": 0, "xvtcl": 0, "relevance": 0}
    blind = dataclasses.replace(batch, image_mask_BI=torch.zeros_like(batch.image_mask_BI))
    assert set(objective.counts(blind).values()) == {0.0, 4.0}
    for changed in (alone, blind):
        terms = outputs_of(objective, changed, 0).terms
        assert all(math.isfinite(term.sum.item()) and (term.count or not term.sum.item()) for term in terms.values())


def test_the_mean_of_earlier_steps_draws_negatives_nearer() -> None:
    objective, batch = objective_of(), batch_of_groups(*GROUPS.values())
    before = outputs_of(objective, batch, 0)
    means = {name: (watched.sum / watched.count).item() for name, watched in before.watched.items()}
    assert means["xtcl_plain"] == pytest.approx((before.terms["xtcl"].sum / before.terms["xtcl"].count).item())
    objective.after_step(1, means, {})
    after = outputs_of(objective, batch, 0)
    for name in ("xtcl", "xvtcl"):
        assert after.terms[name].sum > before.terms[name].sum
        torch.testing.assert_close(after.watched[f"{name}_plain"].sum, before.watched[f"{name}_plain"].sum)
    assert objective.textual.mean().item() == pytest.approx(math.exp(-means["xtcl_plain"]))
    objective.after_step(2, {}, {})  # a step without anchors
    assert int(objective.textual.count) == 1


def test_every_kind_has_its_share_of_the_groups() -> None:
    shares = Shares(strict=0.5, weak=0.3, parallel=0.2)
    kinds = [kind_of(group, shares) for group in range(1000)]
    for first in range(0, 1000, 100):
        found = kinds[first : first + 100]
        assert abs(found.count("strict") - 50) <= 2
        assert abs(found.count("weak") - 30) <= 2


def test_late_fusion_is_refused() -> None:
    class Recipe:
        network = tiny_config()

    with pytest.raises(InputError, match=r"set network\.fusion\.kind to early"):
        RC3Config().check(Recipe())  # type: ignore[arg-type]


def test_inputs_that_the_network_does_not_read_are_refused() -> None:
    class Recipe:
        network = build("mt5").config

    RC3Config(inputs={"weak": "regions"}).check(Recipe())  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"objective.inputs.weak is patches, but network.vision.inputs is regions: set"
    ):
        RC3Config(inputs={"weak": "patches"}).check(Recipe())  # type: ignore[arg-type]
