"""metrics.jsonl across kills and resumes."""

import json
import os
from pathlib import Path

import pytest

from shards.errors import InputError
from trainer.telemetry.metrics import MetricsLog, read_metrics, validation_history


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
    log.write({"kind": "train", "step": 1})
    assert steps_in(tmp_path / "metrics.jsonl") == [1]
    log.close()


def test_a_first_start_begins_anew_and_counts_those_that_came_to_nothing(tmp_path: Path) -> None:
    """Step 0 included: its validation will come again."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"kind": "validation", "step": 0}\n{"kind": "start", "step": 0}\n{"kind": "train", "step": 7}\n{"kind": "sta'
    )
    MetricsLog(path, None).close()
    assert read_metrics(path) == [{"kind": "start", "step": 0}]
    path.write_text('{"kind": "start", "step": 8}\n{"kind": "train", "step": 9}\n{"kind": "train", "step": 3}\n')
    MetricsLog(path, 4).close()  # back to an older checkpoint than the one of that start
    assert steps_in(path) == [8, 3]


BAD_LINES = [
    b"\xff\xfe broken",
    b'{"step": 1}',
    b'{"kind": "train"}',
    b'{"kind": 3, "step": 1}',
    b'{"kind": "train", "step": "1"}',
    b'{"kind": "train", "step": -1}',
    b'{"kind": "train", "step": 1' + b"0" * 400 + b"}",
    b'{"kind": "train", "step": true}',
    b"[" * 100_000,
    b"9" * 5000,
    b"[]",
    b"\0" * 40,
]


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_never_blocks_a_resume_and_is_kept(
    tmp_path: Path, bad: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.jsonl"
    first, second, third = (b'{"kind": "train", "step": %d}' % step for step in (1, 2, 3))
    path.write_bytes(b"\n".join([first, bad, second, bad, third, b""]))
    assert steps_in(path) == [1, 2, 3]
    log = MetricsLog(path, 2)
    assert path.read_bytes() == b"\n".join([first, bad, second, bad, b""])
    log.rewind(1)
    log.close()
    assert path.read_bytes() == b"\n".join([first, bad, bad, b""])
    said = capsys.readouterr().err
    assert said == (
        f"warning: {path}: 2 lines, 2 the first, are no record of ours: passed over, and kept where they are\n"
    )


def test_validations_of_any_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        '{"kind": "validation", "step": 1, "nll": {"mms": 2.5, "mxls": NaN}}',
        '{"kind": "validation", "step": 2, "nll": {"mms": 1e300, "mxls": 1' + "0" * 400 + "}}",
        '{"kind": "validation", "step": 3, "nll": [1]}',
        '{"kind": "validation", "step": 4}',
        '{"kind": "validation", "step": 5, "nll": {"mms": "1"}}',
    ]
    path.write_text("\n".join(lines) + "\n")
    found = validation_history(path)
    assert repr(found) == "[{'mms': 2.5, 'mxls': nan}, {'mms': 1e+300, 'mxls': nan}, {'mms': nan}]"
    assert len(validation_history(path, last_step=2)) == 2
    assert validation_history(tmp_path / "none.jsonl") == []


def test_a_fifo_in_place_of_the_log_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match="not a regular file"):
        MetricsLog(tmp_path / "metrics.jsonl", 3)
