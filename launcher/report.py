"""`d2tv report`: a run as one page."""

from pathlib import Path

from rich.console import Console

from launcher.pages.page import write_page
from launcher.watch.run_directory import RunDirectory
from launcher.watch.words import one_line
from trainer.progress import stage


def report(path: Path, out: Path | None) -> None:
    """Write the page of the run at `path` to `out`, or to report.html in it.

    Raises `InputError` for a directory that is no run, or a page that cannot be written.
    """
    from launcher.pages.run import run_page

    run = RunDirectory(path)
    out = out or path / "report.html"
    with stage("reading the run", out=Console(stderr=True, highlight=False)):
        write_page(out, run_page(run))
    print(f"page: {one_line(str(out))}")
