"""The mathematics does not know how it is spread: over ranks, over micro-steps, by ZeRO-2 or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch

from shards.batch.loader import Loader
from shards.batch.reader import Reader
from shards.format.index import Corpus
from shards.stream.partition import Partition
from shards.text.tokenizer import open_tokenizer
from tests.support.harness import run_job
from tests.support.objectives import outputs_of
from tests.support.tiny import tiny_overrides
from trainer.assemble import build_collator
from trainer.loop import total_loss
from trainer.network import build_network
from trainer.plan import build_sampler
from trainer.recipe import Recipe, load_recipe
from trainer.schedule import learning_rate

STEPS = 20
NO_DROPOUT = [f"network.{part}.dropout=0" for part in ("text", "vision", "fusion")]
#: name -> (ranks, groups a micro-batch); four groups a step in every one.
LAYOUTS = {"1 rank x 4 groups": (1, 4), "2 ranks x 2 groups": (2, 2), "1 rank, 4 micro-steps": (1, 1)}


def overrides(corpus: Corpus, run: Path, groups: int) -> list[str]:
    return [
        *tiny_overrides(corpus.directory, run),
        *NO_DROPOUT,
        f"batch.groups_per_micro_batch={groups}",
        f"training.steps={STEPS}",
        # An attention's key bias has no gradient but rounding noise, and Adam would blow noise up to full steps.
        "optimizer.eps=1e-5",
    ]


@pytest.fixture(scope="module")
def layouts(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """20 steps of D2TV in every layout, through the real engine."""
    results = {}
    for name, (world_size, groups) in LAYOUTS.items():
        out = tmp_path_factory.mktemp("layout") / "job"
        results[name] = run_job(
            out, world_size=world_size, overrides=overrides(tiny_corpus, out / "run", groups), steps=STEPS
        )
    return results


def train_plainly(corpus: Corpus, words: list[str], steps: int) -> dict[str, Any]:
    """Steps of four groups in plain torch: no DeepSpeed, no ranks, torch's own AdamW and clipping."""
    recipe: Recipe = load_recipe("d2tv", words)
    tokenizer = open_tokenizer(corpus.directory / "tokenizer")
    objective = build_network(recipe, tokenizer)
    objective.train()
    collate = build_collator(recipe, corpus, Reader(corpus), tokenizer, torch.device("cpu"), training=True)
    sampler = build_sampler(recipe, corpus)
    partition = Partition(groups_per_step=4, groups_per_micro_batch=4, rank=0, world_size=1)
    loader = Loader(sampler, collate, partition, first_step=0, threads=0, prefetch=0)
    optimizer = torch.optim.AdamW(
        objective.parameters(), betas=recipe.optimizer.betas, eps=recipe.optimizer.eps, weight_decay=0.0
    )
    first_gradient: dict[str, torch.Tensor] = {}
    for step in range(steps):
        batch = next(loader)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step + 1, recipe)
        optimizer.zero_grad()
        total_loss(outputs_of(objective, batch, step), objective.counts(batch)).backward()
        if not first_gradient:
            first_gradient = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
        torch.nn.utils.clip_grad_norm_(objective.parameters(), recipe.optimizer.gradient_clipping)
        optimizer.step()
    weights = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    return {"gradient": first_gradient, "weights": weights}


@pytest.fixture(scope="module")
def plain(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_plainly(tiny_corpus, overrides(tiny_corpus, tmp_path_factory.mktemp("plain"), 4), STEPS)


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        scale = float(one[name].abs().max().clamp_min(1.0))
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-5, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("layout", list(LAYOUTS)[1:])
def test_losses_and_gradients_do_not_depend_on_the_layout(
    layouts: dict[str, list[dict[str, Any]]], layout: str
) -> None:
    reference = layouts["1 rank x 4 groups"][0]
    for result in layouts[layout]:
        assert_close(reference["gradient"], result["gradient"])
        for one, other in zip(reference["losses"], result["losses"], strict=True):
            assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


def test_zero2_on_two_ranks_matches_plain_adamw(
    layouts: dict[str, list[dict[str, Any]]], plain: dict[str, Any]
) -> None:
    for result in layouts["2 ranks x 2 groups"]:
        assert_close(plain["gradient"], result["gradient"])
        assert_close(plain["weights"], result["weights"])


def test_ranks_hold_the_same_weights(layouts: dict[str, list[dict[str, Any]]]) -> None:
    first, second = layouts["2 ranks x 2 groups"]
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_trains_on_the_same_examples(layouts: dict[str, list[dict[str, Any]]], layout: str) -> None:
    """Slots 0 .. 20 * 16 - 1, each on one rank once, in step order."""
    seen = sorted(slot for result in layouts[layout] for micro_batch in result["slots"] for slot in micro_batch)
    assert seen == list(range(STEPS * 16))
