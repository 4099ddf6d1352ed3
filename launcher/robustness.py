"""Show the report of `d2tv evaluate --perturb`: a table on the terminal, and a page beside the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from launcher.pages.robustness import as_percent, robustness_page
from shards.files.write import write_output
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.robustness.impact import describe_sources
from trainer.recipe.profiles import profile_of
from trainer.terminal.text import Console


def show_robustness(run: Path, report: Mapping[str, Any]) -> None:
    """Print the table and write <split>-robustness.html beside the report. run: or one of its `evaluation/<label>`."""
    console = Console(soft_wrap=True)
    console.print(robustness_table(report))
    for line in describe_sources(report.get("sources", {})):
        console.print(line)
    path = evaluation_folder(run) / f"{report['split']}-robustness.html"
    write_output(path, robustness_page(run.resolve().name, report))
    print(f"page: {path}")


def robustness_table(report: Mapping[str, Any]) -> Table:
    """Return ROUGE-L by kind and severity, and MMI over the severities, in the 80 columns of a log file."""
    severities = [str(severity) for severity in report["severities"]]
    title = f"robustness, step {report['step']}; ROUGE-L ({profile_of(report)}) in per cent by severity, MMI over them"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("kind", "examples", "clean", *severities, "MMI"):
        table.add_column(column, justify="left" if column == "kind" else "right", no_wrap=True)
    for name, kind in report["kinds"].items():
        of = [kind["severities"][severity] for severity in severities]
        table.add_row(
            name,
            str(kind["examples"]),
            f"{kind['clean']['rougeL']:.2f}",
            *(f"{one['scores']['rougeL']:.2f}" for one in of),
            as_percent(kind["mean_mmi"]["rougeL"]),
        )
    return table
