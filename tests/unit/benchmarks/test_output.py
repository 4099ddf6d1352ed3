"""Where a benchmark writes: figures to a regular file, data to a directory of its own."""

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import output, sampler, scoring
from shards.errors import InputError


def test_figures_go_to_a_regular_file_alone_and_that_is_known_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    words = ["--json", str(tmp_path / "pipe")]
    assert output.run(lambda: scoring.main(words)) == 2
    monkeypatch.setattr(sys, "argv", ["sampler", *words])
    assert output.run(sampler.main) == 2
    line = f"error: {tmp_path}/pipe cannot be written (it is a FIFO, not a regular file): name another file\n"
    assert capsys.readouterr().err == 2 * line
    (tmp_path / "link").symlink_to("figures.json")
    output.write_figures(tmp_path / "link", {"a": 1.5})
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "figures.json").read_text()) == {"a": 1.5}


def test_the_sampler_benchmark_removes_what_it_made_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").touch()
    monkeypatch.setattr(sampler, "make_index", lambda directory: (directory / "manifest.json").touch())
    with sampler.index(tmp_path) as directory:
        assert (directory / "manifest.json").is_file()
        assert directory.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    (tmp_path / "manifest.json").touch()
    with sampler.index(tmp_path) as directory:
        assert directory == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "photo.jpg"]
    with pytest.raises(InputError, match="is no directory"), sampler.index(tmp_path / "nowhere"):
        pass
