"""A signal before there is anything to save, in a process that runs no Python in its main thread."""

import signal
import subprocess
import sys

import pytest

from tests.support.waiting import HANGING
from trainer.liveness.exit_codes import STOPPED

#: Waits in C for a lock that it holds itself, as a rank waits for others to join; no signal brings it back to Python.
WAITING = """
import ctypes, sys
from trainer.liveness.stop import EarlyStop, StopSignal
with EarlyStop() as early:
    early.farewell = lambda: print("farewell", flush=True)
    if sys.argv[1] == "refused":
        early.code = 2
    if sys.argv[1] == "trains":
        stop = StopSignal()
        early.hand_over()
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    print("ready", flush=True)
    while sys.argv[1] != "trains":
        libc.pthread_mutex_lock(mutex)
    while not stop.received:
        pass
    print("saves", flush=True)
"""


def started(word: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, word], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_rank_that_waits_for_others_stops_with_nothing_to_save(number: int) -> None:
    process = started("waits")
    process.send_signal(number)
    output, error = process.communicate(timeout=HANGING)
    assert (process.returncode, output) == (STOPPED, "farewell\n")
    assert error == "stopped before the ranks had met: nothing is to be saved, the same command begins again\n"


def test_a_rank_that_was_refused_says_so_and_no_more() -> None:
    process = started("refused")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=HANGING) == ("farewell\n", "")
    assert process.returncode == 2


def test_a_training_saves_at_a_signal() -> None:
    process = started("trains")
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=HANGING) == ("saves\n", "")
    assert process.returncode == 0
