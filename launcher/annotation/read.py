"""Print what the annotators of a page found: `d2tv annotate KEY --ratings FILE ...`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.annotation.key import read_key
from launcher.annotation.ratings import read_ratings
from launcher.annotation.results import work_out
from launcher.annotation.show import as_json, sheets
from launcher.comparison.sheet import as_latex, as_markdown, as_text
from shards.errors import InputError, did_you_mean
from shards.files.write import check_output, write_output
from trainer.terminal.text import Console

Format = Literal["text", "markdown", "latex"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Settings of the reading. baseline: what the other systems are tested against; None: the first of the page."""

    baseline: str | None
    samples: int
    seed: int
    format: Format
    json: Path | None


def show_ratings(key_file: Path, paths: Sequence[Path], asked: Asked) -> None:
    """Print means, significance and agreement. Raises `InputError`."""
    check_output(asked.json, "name another --json", reads=[key_file, *paths])
    if asked.seed < 0:
        raise InputError(f"--seed {asked.seed}: at least 0")
    if key_file.is_dir():
        raise InputError(f"{key_file} is a directory: --ratings wants the .key.json that was written beside the page")
    key = read_key(key_file)
    baseline = asked.baseline or key.systems[0]
    if baseline not in key.systems:
        near = did_you_mean(baseline, key.systems)
        raise InputError(f"--baseline {baseline}: no such system{near}: {', '.join(key.systems)}")
    found = read_ratings(paths, key)
    results = work_out(key, found, baseline=baseline, samples=asked.samples, seed=asked.seed)
    if asked.json is not None:
        text = json.dumps(as_json(key, found, results, baseline=baseline), indent=1) + "\n"
        write_output(asked.json, text, "name another --json")
    console = Console()
    for index, sheet in enumerate(sheets(key, found, results)):
        if index:
            print()
        if asked.format == "text":
            console.print(as_text(sheet))
        else:
            print(as_latex(sheet) if asked.format == "latex" else as_markdown(sheet), end="")
