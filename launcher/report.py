"""Write the page of a run: `d2tv report`."""

from pathlib import Path

from launcher.pages.run import run_page
from shards.files.write import check_output, write_output
from shards.printable import one_line
from trainer.runs.directory import RunDirectory
from trainer.terminal.progress import stage
from trainer.terminal.text import Console


def report(path: Path, out: Path | None) -> None:
    """Write the page of the run at `path` to `out`, or to report.html in it.

    Raises `InputError` for a directory that is no run, or a page that cannot be written.
    """
    check_output(out, reads=[path])
    run = RunDirectory(path)
    out = out or path / "report.html"
    with stage("reading the run", out=Console(stderr=True)):
        write_output(out, run_page(run))
    print(f"page: {one_line(str(out))}")
