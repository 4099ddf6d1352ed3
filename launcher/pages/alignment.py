"""Prepare the alignment of documents across languages for scores.html.jinja: ACROSS, Figure 6."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from launcher.pages.matrix import square
from launcher.pages.tables import Table
from trainer.evaluation.describe import describe_alignment
from trainer.runs.words import count, decimals


def read_alignment(report: Mapping[str, Any], file: str) -> dict[str, Any] | None:
    """Return what the macro `alignment` shows; None for a report without that part. file: of the report."""
    alignment = report.get("alignment")
    if alignment is None:
        return None
    rows = [
        [
            _arrow(name),
            count(of["stories"]),
            *(decimals(of[key], 2) for key in ("recall1", "chance")),
            *(decimals(of[key], 3) for key in ("pairs", "others")),
        ]
        for name, of in alignment["directions"].items()
    ]
    words = describe_alignment(report)
    heading = ["direction", "stories", "recall@1", "chance", "parallel", "others"]
    return {
        "words": words and f"{words.removeprefix('alignment: ').capitalize()}. {_means(alignment)}",
        "file": file,
        "squares": [
            _square(_arrow(name), of["similarity"], alignment["directions"][name]["recall1"])
            for name, of in alignment["matrices"].items()
        ],
        "table": Table(heading, rows, [("", 4), ("mean similarity", 2)]),
    }


def _means(alignment: Mapping[str, Any]) -> str:
    pairs, others = (decimals(alignment[key], 3) for key in ("pairs", "others"))
    return f"Mean similarity {pairs} of parallel documents, {others} of others"


def _square(direction: str, similarity: list[list[float]], recall: float) -> dict[str, Any]:
    values_NN = np.array(similarity, np.float64)

    def tip(row: int, column: int) -> str:
        pair = f"story {row + 1}, its parallel" if row == column else f"stories {row + 1} and {column + 1}"
        return f"{pair}: {values_NN[row, column]:.3f}"

    return square(f"{direction}, recall@1 {recall:.2f}", values_NN, tip)


def _arrow(name: str) -> str:
    return name.replace(">", " → ")
