"""Words for the hosts of a hostfile: those that a shell would change are refused, the others arrive as they are."""

import subprocess

import pytest

from launcher.remote_words import check_remote_words
from shards.errors import InputError


@pytest.mark.parametrize(
    "word",
    ["run=exp #2", "mixture.directions=en-*,*-ur", "mixture.weights={all: 1, en-ur: 5}", "run=/data/a'b c", "a=[b,c]"],
)
def test_what_is_taken_arrives_as_it_is(word: str) -> None:
    check_remote_words([word])
    quoted = f'"{word}"' if " " in word else word  # as DeepSpeed's launcher does it
    assert subprocess.run(["sh", "-c", f"printf %s {quoted}"], capture_output=True, text=True).stdout == word


BARE = ["a;b", "$HOME/x", "`id`", "a'b", '"a"', "a\\b", "a&b", "a>b", "{a,b}", "{1..3}", "(a)", "a|b"]


@pytest.mark.parametrize(
    "word", [*(f"run={word}" for word in BARE), "run=a\tb", "run=$HOME x", "run=`id` x", "run=a\\ b"]
)
def test_what_a_shell_would_change_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="write it into a recipe file") as caught:
        check_remote_words(["run=x", word])
    assert "\n" not in str(caught.value)
