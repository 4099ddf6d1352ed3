"""Test how the step benchmark takes its figures. Its quick run: tests/system/test_quick_benchmarks.py."""

import dataclasses

import pytest
import torch

from benchmarks import step
from benchmarks.output import run
from benchmarks.step import training_figures
from benchmarks.step_objectives import objective_figures, series_of
from benchmarks.step_process import Timing, TraineeError, make_batch, measured_in_process
from benchmarks.step_rounds import Measured, Series
from benchmarks.step_shapes import REGIMES, SHAPES, Articles, batch_of, lengths_of, network_config, story_rows
from benchmarks.step_trainees import Parts, Setup, settings_of
from models.objectives import OBJECTIVES
from shards.batch.fields import needed_fields

TINY = Setup(shape="tiny", precision="fp32", device="cpu", lengths=lengths_of(quick=True), rows=4)


def test_no_device_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(lambda: step.main(["--device", "cuda"])) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is no CUDA device")
    assert error.count("\n") == 1


def timings(*walls: float, flops: int = 100) -> list[Timing]:
    return [Timing(examples=4, wall=wall, cpu=wall, flops=flops, parts=Parts(), peak_bytes=1) for wall in walls]


def test_ratios_are_taken_within_rounds() -> None:
    """Both at half speed in one round is no news."""
    ours, plain = (Series(who, "bf16", "full", "d2tv") for who in ("ours", "plain"))
    two = Series("ours", "bf16", "full", "two_branch")
    apart = Timing(examples=4, wall=1, cpu=1, flops=1, parts=Parts(forward=1, backward=2, optimizer=1), peak_bytes=1)
    measured = Measured(
        timings={ours: timings(1, 2, 1), plain: timings(3, 6, 4), two: timings(0.5, 1, 1)},
        apart=dict.fromkeys((ours, plain, two), apart),
        peaks={"bf16": 1000.0, "fp32": 500.0},
    )
    flat = training_figures(measured, threads=2)
    assert flat["vs_plain_bf16"] == pytest.approx(3)
    assert flat["vs_plain_bf16_high"] == pytest.approx(4)
    assert flat["d2tv_over_two_branch"] == pytest.approx(2)
    assert flat["mfu_bf16"] == pytest.approx(0.1)
    assert flat["plain_mfu_bf16"] == pytest.approx(0.025)
    assert flat["ours_bf16_full_d2tv_cpu_share"] == pytest.approx(0.5)
    assert flat["ours_bf16_full_d2tv_backward_share"] == pytest.approx(0.5)
    assert "vs_plain_fp32" not in flat
    assert flat["mfu_fp32"] is None


def test_every_objective_is_compared_with_the_two_branches_of_its_rounds() -> None:
    found = {
        "cat": Measured(
            timings={series_of("two_branch"): timings(1, 2, 1), series_of("cat"): timings(2, 6, 2, flops=150)}
        ),
        "across": Measured(timings={series_of("two_branch"): timings(1, 1, 1)}, missing={"across": "out of memory"}),
    }
    flat = objective_figures(found, threads=1)
    assert (flat["objectives_cat_time"], flat["objectives_cat_flops"]) == (2, 1.5)
    assert (flat["objectives_cat_time_low"], flat["objectives_cat_time_high"]) == (2, 3)
    assert flat["objectives_across_time_missing"] == flat["objectives_across_flops_missing"] == "out of memory"
    assert "objectives_across_time" not in flat
    assert set(step.FIGURES) >= {f"objectives_{name}_{what}" for name in OBJECTIVES for what in ("time", "flops")}


@pytest.mark.parametrize("name", ["two_branch", *OBJECTIVES])
def test_every_objective_has_settings_and_finds_the_fields_that_it_needs(name: str) -> None:
    needed = needed_fields(settings_of(name).needs)
    batch = make_batch(dataclasses.replace(TINY, objective=name), "full", 3)
    for attribute in (attribute for field in needed for attribute in field.attributes):
        assert getattr(batch, attribute) is not None
    assert torch.equal(batch.source_ids_BM, make_batch(TINY, "full", 3).source_ids_BM)


def test_batches_are_the_same_for_everyone_and_of_the_regime() -> None:
    full, real = (make_batch(TINY, regime, 3) for regime in REGIMES)
    assert torch.equal(full.source_ids_BM, make_batch(TINY, "full", 3).source_ids_BM)
    assert full.source_mask_BM.all()
    assert full.target_mask_BM.all()
    assert full.summary_mask_BN.all()
    assert full.image_mask_BI.all()
    assert full.source_ids_BM.shape == full.target_ids_BM.shape == (4, TINY.lengths.document)
    assert not real.source_mask_BM.all()
    assert not torch.equal(full.source_ids_BM, make_batch(TINY, "full", 4).source_ids_BM)
    assert not torch.equal(full.source_ids_BM, make_batch(TINY, "full", 3, rank=1).source_ids_BM)


def test_drawn_lengths_are_the_corpus_own() -> None:
    articles = Articles("real", lengths_of(quick=False), seed=0)
    documents, images = [articles.document() for _ in range(2000)], [articles.images() for _ in range(2000)]
    assert 37 <= min(documents) <= max(documents) <= 512
    assert sum(documents) / 2000 == pytest.approx(334, rel=0.05)  # their mean in the corpus
    assert sum(images) / 2000 == pytest.approx(3.58, rel=0.05)


def test_languages_change_names_not_lengths() -> None:
    few, many = (make_batch(TINY, f"languages_{number}", 5) for number in (4, 44))
    assert torch.equal(few.source_mask_BM, many.source_mask_BM)
    assert few.target_language_B.max() < 4 <= many.target_language_B.max()
    assert not torch.equal(few.start_B, many.start_B)


def test_story_rows_share_the_target_article() -> None:
    batch = batch_of(story_rows(Articles("real", lengths_of(quick=True), 0), 2), 1000, 0)
    assert batch.cross_B.tolist() == [False, True, True, True] * 2
    for first in (0, 4):
        for name in ("target_ids_BM", "summary_ids_BN", "roi_BIRV", "image_mask_BI", "images_B", "start_B"):
            values = getattr(batch, name)[first : first + 4]
            assert (values == values[0]).all(), name
    own = batch.source_ids_BM[0][batch.source_mask_BM[0]]
    assert torch.equal(own, batch.target_ids_BM[0][batch.target_mask_BM[0]])
    assert not torch.equal(batch.target_ids_BM[0], batch.target_ids_BM[4])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_network(shape: str) -> None:
    assert network_config(shape).text.d_model


def out_of_memory() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_what_does_not_fit_is_a_reason() -> None:
    with pytest.raises(TraineeError, match="can't allocate"):
        measured_in_process(out_of_memory)
