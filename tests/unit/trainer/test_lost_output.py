"""A reader of standard output that goes away, and a disk that is full, cost lines and no process."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from rich.console import Console
from trainer.terminal.output import make_output_unbreakable
make_output_unbreakable()
sys.stdin.readline()
print("one", flush=True)
Console().print("two")
for _ in range(10_000):
    print("three")
print("four", file=sys.stderr)
sys.exit(75)
"""


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
def test_a_closed_pipe_changes_no_exit_code(buffered: bool) -> None:
    words = [sys.executable, *([] if buffered else ["-u"]), "-c", PROGRAM]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(60) == 75


def test_a_full_disk_changes_no_exit_code() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM], input=b"\n", stdout=full, stderr=full, check=False)
    assert done.returncode == 75


def test_what_can_be_written_is() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=b"\n", capture_output=True, check=False)
    assert done.stdout.startswith(b"one" + os.linesep.encode() + b"two")
    assert done.stdout.count(b"three") == 10_000
    assert done.stderr == b"four\n"
