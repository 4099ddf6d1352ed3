"""The program's log: levels, ranks and streams."""

import errno
import io
import sys

import pytest

from trainer.terminal.log import log


def test_levels_and_ranks_are_named_and_escapes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("step 1 \x1b[2J")
    log.warning("no scrape", extra={"rank": 2})
    log.error("no corpus")
    log.getChild("train").info("restarting")
    out, err = capsys.readouterr()
    assert out == "step 1 ␛[2J\n"
    assert err.splitlines() == ["warning: rank 2: no scrape", "error: no corpus", "d2tv train: restarting"]


def test_progress_is_that_of_the_first_rank(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    log.info("step 1")
    log.warning("cannot be written")
    assert capsys.readouterr() == ("", "warning: cannot be written\n")


def test_a_stream_that_is_closed_costs_the_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    log.info("lost")
