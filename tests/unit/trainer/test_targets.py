"""file_sd targets: whole files, one an endpoint, and nothing left of those that are gone."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.telemetry.prometheus.targets import Target, TargetFile


def target(run: Path, **changes: Any) -> Target:
    values = {"address": "127.0.0.1:9464", "scheme": "http", "run": run, "node": "n0", "rank": 0, "attempt": "a"}
    return Target(**(values | changes))


def labels(path: Path) -> dict[str, str]:
    ((group,),) = (json.loads(path.read_text()),)
    return dict(group["labels"])


def test_a_target_says_where_and_what_and_goes_with_its_endpoint(tmp_path: Path) -> None:
    file = TargetFile(tmp_path / "targets", target(tmp_path / "mine", slurm_job="77", scheme="https"))
    (group,) = json.loads(file.path.read_text())
    assert set(group) == {"targets", "labels"}  # Prometheus refuses a file with any other key
    assert group["targets"] == ["127.0.0.1:9464"]
    shown = {name: value for name, value in group["labels"].items() if not name.startswith("__meta")}
    wanted = {"job": "d2tv", "run": "mine", "node": "n0", "rank": "0", "slurm_job": "77", "__scheme__": "https"}
    assert shown == wanted
    file.remove()
    assert list((tmp_path / "targets").iterdir()) == []
    file.remove()  # a second time is no error


def test_runs_nodes_and_ranks_have_files_of_their_own(tmp_path: Path) -> None:
    others = [
        target(tmp_path / "run"),
        target(tmp_path / "elsewhere" / "run"),  # of the same name
        target(tmp_path / "run", node="n1", rank=4),
        target(tmp_path / "a run/../with, odd=words"),
    ]
    for one in others:
        TargetFile(tmp_path / "targets", one)
    files = sorted((tmp_path / "targets").iterdir())
    assert len(files) == len(others)
    assert all(file.suffix == ".json" for file in files)


def test_a_new_start_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """On whatever nodes that was."""
    for node, rank in (("n0", 0), ("n1", 4), ("n2", 8)):
        TargetFile(tmp_path, target(tmp_path / "run", node=node, rank=rank))
    TargetFile(tmp_path, target(tmp_path / "other", node="n9"))
    TargetFile(tmp_path, target(tmp_path / "run", node="n1", rank=0, attempt="b"))
    TargetFile(tmp_path, target(tmp_path / "run", node="n3", rank=4, attempt="b"))
    nodes = sorted((labels(file)["run"], labels(file)["node"]) for file in tmp_path.glob("*.json"))
    assert nodes == [("other", "n9"), ("run", "n1"), ("run", "n3")]


def left_behind(directory: Path, run: Path, *, silent: float = 600.0, **changes: str) -> Path:
    """Write a target as a process that is gone, or another host, did so many seconds ago."""
    file = TargetFile(directory, target(run))
    (group,) = json.loads(file.path.read_text())
    group["labels"] |= {f"__meta_d2tv_{name}": value for name, value in changes.items()}
    file.path.write_text(json.dumps([group]))
    os.utime(file.path, (0, time.time() - silent))
    return file.path


def test_what_a_kill_left_is_swept_by_the_next_start(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    gone = left_behind(tmp_path, tmp_path / "gone", process=f"{done.pid} 1.00")
    reused = left_behind(tmp_path, tmp_path / "reused", process=f"{os.getpid()} 1.00")  # another process has its number
    alive = left_behind(tmp_path, tmp_path / "alive")
    elsewhere = left_behind(tmp_path, tmp_path / "elsewhere", host="another", process="1 1.00")
    # A container of the same host's name, whose processes we do not see: it has just touched its file.
    contained = left_behind(tmp_path, tmp_path / "contained", silent=90, process=f"{done.pid} 1.00")
    forgotten = left_behind(tmp_path, tmp_path / "forgotten", silent=25 * 3600, host="another")
    ours = TargetFile(tmp_path, target(tmp_path / "mine")).path
    assert not gone.exists()
    assert not reused.exists()
    assert not forgotten.exists()
    assert {alive, elsewhere, contained, ours} == set(tmp_path.glob("*.json"))


def test_a_living_endpoint_of_another_host_is_not_forgotten(tmp_path: Path) -> None:
    file = TargetFile(tmp_path, target(tmp_path / "run"))
    os.utime(file.path, (0, 0))
    file.touch()
    assert time.time() - file.path.stat().st_mtime < 60
    assert labels(file.path)["__meta_d2tv_host"] == socket.gethostname()


def test_a_file_that_was_taken_away_comes_back_and_a_successors_stays(tmp_path: Path) -> None:
    file = TargetFile(tmp_path, target(tmp_path / "run"))
    file.path.unlink()
    file.touch()
    assert labels(file.path)["run"] == "run"
    successor = TargetFile(tmp_path, target(tmp_path / "run", attempt="b"))
    file.remove()  # late
    assert labels(successor.path)["__meta_d2tv_attempt"] == "b"


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", "{}", '[{"labels": 3}]', '[{"targets": ["x:1"], "labels": {}}]']
)
def test_files_that_are_not_ours_stay(tmp_path: Path, content: str) -> None:
    (tmp_path / "others.json").write_text(content)
    TargetFile(tmp_path, target(tmp_path / "run"))
    assert (tmp_path / "others.json").read_text() == content


def test_a_directory_that_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        TargetFile(tmp_path / "file", target(tmp_path / "run"))


def test_only_files_that_an_endpoint_has_named_are_swept(tmp_path: Path) -> None:
    """A copy of a target under another name was made by a person, a link or a pipe was not made by an endpoint."""
    targets = tmp_path / "targets"
    old = TargetFile(targets, target(tmp_path / "run")).path
    content = old.read_text()
    (targets / "copy.json").write_text(content)
    (tmp_path / "kept.json").write_text(content)
    old.unlink()
    old.symlink_to(tmp_path / "kept.json")
    os.mkfifo(targets / "pipe.json")
    (targets / "folder.json").mkdir()
    others = sorted(targets.iterdir())
    TargetFile(targets, target(tmp_path / "run", node="n1", attempt="b"))
    assert [path for path in others if not os.path.lexists(path)] == []
    assert (tmp_path / "kept.json").read_text() == content
    assert (targets / "copy.json").read_text() == content


def test_a_target_never_takes_the_place_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / target(tmp_path / "run").file_name())
    with pytest.raises(OSError, match="it is a FIFO"):
        TargetFile(tmp_path, target(tmp_path / "run"))
