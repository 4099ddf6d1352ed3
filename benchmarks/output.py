"""Write a benchmark's figures to a file that is checked before anything is measured."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.write import write_output
from shards.printable import error_line


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write `figures` as JSON to `path`. Raises `InputError` as `write_output` does."""
    write_output(path, json.dumps(figures, indent=1) + "\n")


def run(main: Callable[[], int]) -> int:
    """Return the exit code of `main`; 2, and one line on standard error, for an `InputError`."""
    try:
        return main()
    except InputError as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
