"""Show a benchmark's figures, and write them to a file that is checked before anything is measured."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shards.errors import InputError
from shards.files.write import write_output
from shards.printable import error_line
from trainer.terminal.log import log


def show_figures(
    title: str, figures: Mapping[str, Any], path: Path | None, what: Mapping[str, str] | None = None
) -> None:
    """Print a table of those figures that `what` describes, of all by default, and write all to `path`."""
    table = Table("figure", "value", "what it is" if what else "", title=title, title_justify="left")
    for name, description in (what or dict.fromkeys(figures, "")).items():
        value = figures[name]
        table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else str(value), description)
    Console(highlight=False).print(table)
    write_figures(path, figures)


def write_figures(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write `figures` as JSON to `path`, if there is one. Raises `InputError` as `write_output` does."""
    if path is not None:
        write_output(path, json.dumps(figures, indent=1) + "\n")


def run(main: Callable[[], int]) -> int:
    """Return the exit code of `main`; 2, and one line on standard error, for an `InputError`; 130 for Ctrl-C.

    SIGTERM ends it with 143, so that its folders and processes go then, too.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return main()
    except InputError as error:
        log.error(error_line(error))
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
