"""Show a run once, or again and again until Ctrl-C: `d2tv watch`."""

import io
import math
import signal
import sys
import time
from pathlib import Path

from rich.live import Live

from launcher.terminal.run_view import view
from shards.errors import InputError
from trainer.runs.directory import RunDirectory
from trainer.terminal.text import Console


def watch(path: Path, *, once: bool, interval: float) -> None:
    """Show the run at `path` every `interval` seconds; once if `once`, or if the output is no terminal.

    Raises `InputError` for a directory that is no run. Ctrl-C ends it.
    """
    if not (interval > 0 and math.isfinite(interval)):
        raise InputError(f"--interval {interval:g} is no time to wait: give seconds, more than 0")
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a terminal without our letters shows something else
    console = Console(file=sys.stdout)
    try:
        run = RunDirectory(path)
        if once or not console.is_terminal or console.is_dumb_terminal:
            console.print(view(run, time.time(), console.width))
            return
        # Without a handler the terminal would be left without its cursor.
        signal.signal(signal.SIGTERM, _leave)
        with Live(
            view(run, time.time(), console.width), console=console, auto_refresh=False, vertical_overflow="ellipsis"
        ) as live:
            while True:
                time.sleep(interval)
                run.refresh()
                live.update(view(run, time.time(), console.width), refresh=True)
    except KeyboardInterrupt:
        return


def _leave(number: int, _: object) -> None:
    """Exit with the signal's status, after the view has ended."""
    raise SystemExit(128 + number)
