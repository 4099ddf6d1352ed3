"""The oracle of the fuzz suite: a command or function answers, or refuses in one line; nothing else, and no hang."""

import hashlib
import os
import random
import signal
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from launcher.cli import main
from shards.errors import InputError
from shards.printable import error_line

#: Another seed, and so many times the cases, for trials by hand.
SEED = int(os.environ.get("D2TV_FUZZ_SEED", "0"))
TIMES = int(os.environ.get("D2TV_FUZZ_TIMES", "1"))
#: Guards against hanging alone.
_HANGING_SECONDS = 120


class Oracle:
    """Counts how the cases of a kind end, and fails where one ends in another way than it may.

    `canary` is a directory that no case may change; hostile files may link to it.
    """

    def __init__(self, kind: str, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.kind, self.draw = kind, random.Random(f"{SEED} {kind}")
        self.directory, self.canary = directory, directory / "canary"
        self.ends = Counter[str]()
        self._capture = capture
        (self.canary / "inner").mkdir(parents=True)
        for name in ("notes.txt", "manifest.json", "inner/metrics.jsonl", "inner/step-00000001.tar"):
            (self.canary / name).write_text(f"{name} of somebody\n")
        self._before = self._state_of_canary()

    def case(self, what: str, call: Callable[[], Any]) -> Any:
        """Call a function: its answer, or None where it raises an `InputError` of one line."""
        try:
            with _alarm(f"{self.kind}: {what}"):
                answer = call()
        except InputError as error:
            refusal = error
        else:
            self._end("accepted", what)
            return answer
        self._one_line(what, f"{error_line(refusal)}\n")
        assert "\n" not in str(refusal), (self.kind, what, str(refusal))
        self._end("refused", what)
        return None

    def command(self, what: str, words: Sequence[str | Path], codes: Sequence[int] = (0,)) -> int:
        """Run `d2tv words`, which ends with one of `codes`, or with 2 and one line.

        What `d2tv recipe` prints is data, which goes to a file as it is.
        """
        self._capture.readouterr()
        with _alarm(f"{self.kind}: {what}"):
            code = main([str(word) for word in words])
        said = self._capture.readouterr()
        shown = said.err if words[0] == "recipe" else said.out + said.err
        assert not _orders(shown), (self.kind, what, _orders(shown))
        if code == 2:
            errors = [line for line in said.err.splitlines(keepends=True) if line.startswith("error: ")]
            assert len(errors) == 1, (self.kind, what, said.err)
            self._one_line(what, errors[0])
        else:
            assert code in codes, (self.kind, what, code, said.err)
        self._end("refused" if code == 2 else "accepted", what)
        return code

    def both_ends(self) -> None:
        """Fail unless cases were accepted and cases were refused: else the generator tries nothing."""
        assert min(self.ends["accepted"], self.ends["refused"]) > sum(self.ends.values()) / 50, self.summary()

    def summary(self) -> str:
        """Return the counts of the cases by how they ended, in words."""
        return ", ".join(f"{count} {how}" for how, count in sorted(self.ends.items()))

    def _one_line(self, what: str, line: str) -> None:
        assert line.count("\n") == 1, (self.kind, what, line)
        assert len(line) > len("error: \n"), (self.kind, what, line)
        assert not _orders(line), (self.kind, what, line)
        # The name of a type alone says nothing to a person.
        assert "Traceback" not in line, (self.kind, what, line)

    def _end(self, how: str, what: str) -> None:
        self.ends[how] += 1
        assert self._state_of_canary() == self._before, (self.kind, what)

    def _state_of_canary(self) -> dict[str, str]:
        return tree_state(self.canary)


def tree_state(directory: Path) -> dict[str, str]:
    """Return every path below a directory with its kind, and the hash of a file's content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path.stat().st_mode)
    return found


def _orders(text: str) -> str:
    """The characters of a text that a terminal would obey, or that turn a line around."""
    return "".join(
        sign for sign in set(text) - {"\n", "\t"} if unicodedata.category(sign) == "Cc" or sign in "\u202e\u2066\u2028"
    )


@contextmanager
def _alarm(what: str) -> Iterator[None]:
    """Fail where the block hangs, whatever it waits for. pytest-timeout has the same signal, and gets it back."""

    def hangs(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"{what}: hangs")

    handler = signal.signal(signal.SIGALRM, hangs)
    before = signal.setitimer(signal.ITIMER_REAL, _HANGING_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *before)
