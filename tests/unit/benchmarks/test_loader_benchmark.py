"""How the loader benchmark takes its figures. Its quick run: tests/system/test_quick_benchmarks.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import loader
from benchmarks.loader import figures
from benchmarks.loader_clock import Round, time_round
from benchmarks.loader_process import PeerError, PeerProcess
from benchmarks.loader_records import RECORD_BYTES, check, make_record
from benchmarks.loader_rounds import Setting
from benchmarks.output import run

ROOT = Path(__file__).resolve().parents[3]


def test_no_room_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: loader.main(["--dir", str(tmp_path / "nowhere")])) == 2
    assert capsys.readouterr().err.startswith("error: --dir ")


def test_clock_stands_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes 1 s, the first of an epoch 100 s: neither the starts nor the warm-up are counted."""
    now = 0.0

    def batches() -> Iterator[int | None]:
        nonlocal now
        while True:
            for number in range(10):
                now += 100 if number == 0 else 1
                yield 8
            yield None

    monkeypatch.setattr("benchmarks.loader_clock.time.perf_counter", lambda: now)
    monkeypatch.setattr("benchmarks.loader_clock.cpu_seconds", lambda: 0.5 * now)
    taken = time_round(batches(), lambda size: size, seconds=20, warm=3)
    assert taken == Round(records=160, wall=20.0, cpu=10.0)


def test_ratios_are_taken_within_rounds() -> None:
    """Both at half speed in one round is no news; the setting that was faster in the median counts."""

    def rounds(*speeds: float) -> list[Round]:
        return [Round(records=1, wall=RECORD_BYTES / 1e9 / speed, cpu=RECORD_BYTES / 1e9) for speed in speeds]

    found = figures(
        {
            Setting("pread", ""): rounds(10, 5, 10),
            Setting("d2tv", "t0 io0"): rounds(1, 1, 1),
            Setting("d2tv", "t1 io0"): rounds(8, 4, 9),
            Setting("webdataset", "w0"): rounds(2, 1, 2),
            Setting("webdataset", "w1"): rounds(1, 1, 1),
        }
    )
    assert found["vs_pread"] == pytest.approx(0.8)
    assert found["vs_pread_high"] == pytest.approx(0.9)
    assert found["vs_webdataset"] == pytest.approx(4)
    assert (found["d2tv_best"], found["webdataset_best"]) == ("t1 io0", "w0")
    assert found["cpu_seconds_per_gb"] == pytest.approx(1)
    assert found["d2tv_t1_io0_gb_per_second"] == pytest.approx(8)
    assert found["vs_litdata"] is None


@pytest.mark.parametrize(
    ("python", "reason"), [("no/such/python", "No such file"), ("/bin/false", "without a word"), ("/bin/ls", "--help")]
)
def test_peer_that_cannot_run_says_why(tmp_path: Path, python: str, reason: str) -> None:
    with PeerProcess("webdataset", python, tmp_path, 64) as peer, pytest.raises(PeerError, match=reason):
        peer.version()


def test_records_depend_on_their_number_alone() -> None:
    first, again, other = make_record(7), make_record(7), make_record(8)
    assert first.text == again.text != other.text
    assert (first.roi_IRV == again.roi_IRV).all()
    assert 2500 < len(first.text.encode()) < 3500


def test_check_notices_a_wrong_batch() -> None:
    """A batch of the right shapes whose features belong to other records."""
    import numpy as np
    import torch

    from benchmarks.loader_records import BATCH, Delivered

    records = [make_record(number) for number in range(BATCH)]
    features = torch.from_numpy(np.stack([record.roi_IRV for record in records])).flatten(1, 2)
    boxes = torch.from_numpy(np.stack([record.boxes_IR4 for record in records])).flatten(1, 2)
    mask = torch.ones(BATCH, 5, dtype=torch.bool)
    texts, summaries = [record.text for record in records], [record.summary for record in records]
    check(Delivered(features, boxes, mask, texts, summaries))
    with pytest.raises(ValueError, match="not what its records hold"):
        check(Delivered(features.flip(0), boxes, mask, texts, summaries))
