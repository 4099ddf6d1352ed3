"""metrics.jsonl across kills and resumes, and the sums behind its lines."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from models.network import Network
from models.objectives.d2tv import D2TV, D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from trainer.metrics import MetricsLog, Totals, read_metrics


def steps_in(path: Path) -> list[int]:
    return [record["step"] for record in read_metrics(path)]


def test_a_resume_drops_what_will_come_again_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in (1, 2, 3, 4, 5):
        log.write({"kind": "train", "step": step, "loss": {"total": 1 / step}})
    log.close()
    before = path.read_text().splitlines()
    log = MetricsLog(path, 3)
    assert path.read_text().splitlines() == before[:3]
    log.write({"kind": "train", "step": 4})
    log.close()
    assert steps_in(path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "tail", ['{"kind": "train", "st', '{"step": 3', "\0\0\0\0", "null", "3", '{"kind": "train"}', ""]
)
def test_a_last_line_that_a_kill_cut_short_is_dropped(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = json.dumps({"kind": "train", "step": 2}) + "\n"
    path.write_text(whole + tail)
    assert steps_in(path) == [2]
    log = MetricsLog(path, 10)
    log.write({"kind": "train", "step": 3})
    log.close()
    assert path.read_text() == whole + json.dumps({"kind": "train", "step": 3}) + "\n"


def test_lines_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write({"step": 1})
    assert steps_in(tmp_path / "metrics.jsonl") == [1]
    log.close()


def test_a_first_start_over_another_runs_file_begins_anew(tmp_path: Path) -> None:
    """Step 0 included: its validation will come again."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 7}\n')
    MetricsLog(tmp_path / "metrics.jsonl", None).close()
    assert steps_in(tmp_path / "metrics.jsonl") == []


def test_totals_add_up_to_what_one_big_batch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micro-batches and placeholders against the sums over rows, written out."""
    monkeypatch.setattr("trainer.metrics.sum_over_ranks", lambda values: values)  # one rank, no group
    torch.manual_seed(0)
    objective = D2TV(D2TVConfig(), Network(tiny_config(), 50, PAD_ID, EOS_ID)).eval()
    batches = [
        dataclasses.replace(
            random_batch(rows=5, seed=seed),
            target_language_B=torch.tensor([0, 1, 1, 2, 0]),
            source_language_B=torch.tensor([0, 2, 1, 0, 2]),
        )
        for seed in (1, 2)
    ]
    batches[1].weight_B[4] = 0
    outputs = [objective(batch, 0) for batch in batches]
    totals = Totals(tuple(outputs[0].terms), 3, torch.device("cpu"))
    for out, batch in zip(outputs, batches, strict=True):
        totals.add_micro_batch(out, batch, torch.tensor(1.5))
    totals.add_step(seconds=2.0, data_wait_seconds=0.5, read_retries=3)
    poisoned = dataclasses.replace(outputs[0], row_nll={k: v * math.nan for k, v in outputs[0].row_nll.items()})
    totals.add_micro_batch(poisoned, batches[0], torch.tensor(math.nan))
    totals.skip_step()  # which leaves no trace
    interval = totals.reduce(1)

    assert interval.total_loss == 3.0
    assert (interval.steps, interval.seconds, interval.data_wait_seconds) == (1, 2.0, 0.5)
    assert interval.read_retries == 3
    for name in outputs[0].terms:
        total = sum(out.terms[name].sum.item() for out in outputs)
        count = sum(out.terms[name].count for out in outputs)
        assert interval.loss[name] == pytest.approx(total / count, rel=1e-5)
    examples = {"mms": [0.0] * 3, "mxls": [0.0] * 3}
    tokens = {"mms": [0.0] * 3, "mxls": [0.0] * 3}
    nats = {"mms": [0.0] * 3, "mxls": [0.0] * 3}
    direction_nats, direction_tokens = [0.0] * 9, [0.0] * 9
    for out, batch in zip(outputs, batches, strict=True):
        for row in range(5):
            language, length = int(batch.target_language_B[row]), float(batch.summary_mask_BN[row].sum())
            if batch.weight_B[row] == 0:
                continue
            examples["mxls" if batch.cross_B[row] else "mms"][language] += 1
            direction = 3 * language + int(batch.source_language_B[row])
            direction_tokens[direction] += length
            direction_nats[direction] += float(out.row_nll["mxls" if batch.cross_B[row] else "mms"][row])
            tokens["mms"][language] += length  # the teacher learns from every row
            nats["mms"][language] += float(out.row_nll["mms"][row])
            if batch.cross_B[row]:
                tokens["mxls"][language] += length
                nats["mxls"][language] += float(out.row_nll["mxls"][row])
    assert interval.examples == examples
    assert interval.tokens == tokens
    assert interval.direction_tokens == direction_tokens
    assert interval.direction_nats == pytest.approx(direction_nats, rel=1e-5)
    for kind in ("mms", "mxls"):
        assert interval.nll_by_target[kind] == pytest.approx(nats[kind], rel=1e-5)
        assert interval.nll[kind] == pytest.approx(sum(nats[kind]) / sum(tokens[kind]), rel=1e-5)

    empty = totals.reduce(1)  # and starts anew
    assert empty.steps == 0
    assert set(empty.loss.values()) == {0.0}
