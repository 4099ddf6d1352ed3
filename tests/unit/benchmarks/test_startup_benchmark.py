"""The start-up benchmark: real processes of two commands, and a command that ends otherwise."""

from pathlib import Path

import pytest

from benchmarks.startup import Command, commands, measure, seconds


def test_every_command_has_its_seconds_of_cpu(tmp_path: Path) -> None:
    chosen = {name: command for name, command in commands(tmp_path).items() if name in ("help", "refused_recipe")}
    found = measure(chosen, rounds=1)
    for name in chosen:
        assert 0 < found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    assert all(isinstance(value, int | float | str) for value in found.values())
    assert {"rounds", "cpu_share", "machine"} < found.keys()


def test_a_command_that_ends_otherwise_is_no_figure() -> None:
    refused = Command(words=("-m", "launcher.cli", "recipe", "d2vt"), code=2, says="did you mean 'd2tv'")
    assert min(seconds(refused)) > 0
    with pytest.raises(AssertionError, match="ended with 2"):
        seconds(Command(words=refused.words, code=2, says="something else"))
