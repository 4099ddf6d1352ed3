"""The batch scripts as shell: bash reads them, shellcheck has nothing to say. tests/system runs them."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "launcher" / "slurm").iterdir())


def complaints(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_it(script: str) -> None:
    assert complaints("bash", "-n", script) == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here: apt install shellcheck")
def test_shellcheck_is_silent() -> None:
    assert len(SCRIPTS) == 4
    assert complaints("shellcheck", "--external-sources", *SCRIPTS) == ""
