"""The batch scripts as shell: bash reads them, shellcheck has nothing to say. tests/system runs them."""

import os
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


def own_scratch(temporary: Path) -> subprocess.CompletedProcess[str]:
    """What `own_scratch` of common.sh leaves in `scratch`, and says, with `temporary` as SLURM_TMPDIR."""
    script = f'set -euo pipefail; source {ROOT}/launcher/slurm/common.sh; own_scratch; echo "$scratch"'
    environment = os.environ | {"SLURM_TMPDIR": str(temporary)}
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)


def test_compiled_code_goes_to_a_directory_of_this_user_alone(tmp_path: Path) -> None:
    scratch = tmp_path / f"d2tv-{os.getuid()}"
    for mode in (None, 0o755, 0o700):  # a release before this one made it with the umask
        if mode is not None:
            scratch.chmod(mode)
        done = own_scratch(tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{scratch}\n", "")
        assert scratch.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("plant", ["writable", "link", "file", "stranger", "nowhere"])
def test_a_directory_that_another_user_may_have_filled_is_refused(tmp_path: Path, plant: str) -> None:
    temporary, scratch = tmp_path, tmp_path / f"d2tv-{os.getuid()}"
    match plant:
        case "writable":
            scratch.mkdir()
            scratch.chmod(0o775)
        case "link":
            (tmp_path / "elsewhere").mkdir(mode=0o700)
            scratch.symlink_to("elsewhere")
        case "file":
            scratch.touch()
        case "stranger":
            if os.geteuid() != 0:
                pytest.skip("only root gives files to another user")
            scratch.mkdir(mode=0o700)
            os.chown(scratch, 1234, 1234)
        case _:
            temporary = tmp_path / "nowhere"
    done = own_scratch(temporary)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {temporary}/d2tv-{os.getuid()} on ")
    assert "set TORCH_EXTENSIONS_DIR, TRITON_CACHE_DIR and TORCHINDUCTOR_CACHE_DIR" in done.stderr
    assert done.stderr.count("\n") == 1
