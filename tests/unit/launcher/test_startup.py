"""Hold commands to light imports: torch, DeepSpeed and transformers take seconds, which most need not spend."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.startup import commands, furnish
from tests.support.forkserver import ROOT

#: Runs (name, words) one after the other in one process; prints which of the heavy packages each was the first to load.
_RUN = """
import contextlib, io, json, sys
import launcher.cli, launcher.train
HEAVY = ("torch", "deepspeed", "transformers", "safetensors.torch", "scipy", "pandas", "numba")
found, codes, known = {}, {}, set()
for name, words in json.load(sys.stdin):
    main = launcher.cli.main if words[0] == "d2tv" else launcher.train.main
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            codes[name] = main(words[1:])
        except SystemExit as end:  # --help
            codes[name] = end.code
    loaded = {package for package in HEAVY if package in sys.modules}
    found[name], known = sorted(loaded - known), known | loaded
print(json.dumps([found, codes]))
"""


def test_commands_and_refusals_import_nothing_heavy(tmp_path: Path) -> None:
    furnish(tmp_path)
    wanted = commands(tmp_path)
    words = {}
    for name, command in wanted.items():
        is_d2tv = command.words[:2] == ("-m", "launcher.cli")
        words[name] = ["d2tv", *command.words[2:]] if is_d2tv else ["train.py", *command.words[1:]]
    helped = ("prepare", "inspect", "preview", "verify", "evaluate", "compare", "summarize", "train", "recipe", "study")
    words |= {f"{name} --help": ["d2tv", name, "--help"] for name in (*helped, "annotate", "export", "watch", "report")}
    words["train.py --help"] = ["train.py", "--help"]
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        cwd=ROOT,
        input=json.dumps(list(words.items())),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found, codes = json.loads(done.stdout)
    assert codes == {name: wanted[name].code if name in wanted else 0 for name in words}
    assert {name: packages for name, packages in found.items() if packages} == {}
