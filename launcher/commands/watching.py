"""Define the commands that show a run."""

import argparse
from pathlib import Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parsers; a command imports what it needs when it runs."""
    watch = commands.add_parser(
        "watch",
        help="show a run on the terminal while it trains: progress, losses, speed, checkpoints, worst directions",
        description="Show a run from its files alone, again and again until Ctrl-C. The run may not have begun yet.",
    )
    watch.add_argument("run_directory", type=Path, metavar="RUN", help="the directory that the training has as run=")
    watch.add_argument("--once", action="store_true", help="print it once; so does output that is no terminal")
    watch.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: %(default)s)"
    )
    watch.set_defaults(run=_watch, goes_on=False)

    report = commands.add_parser(
        "report",
        help="write a page that shows a run: curves, directions, checkpoints, restarts, evaluations",
        description="Write one page that needs nothing else: curves, the matrix of directions, the run's course in "
        "time, evaluations, placeholders, the recipe. The run may be running, or not have begun.",
    )
    report.add_argument("run_directory", type=Path, metavar="RUN", help="the directory that the training has as run=")
    report.add_argument("--out", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")
    report.set_defaults(run=_report, goes_on=False)


def _watch(options: argparse.Namespace) -> None:
    from launcher.terminal.watch import watch

    watch(options.run_directory, once=options.once, interval=options.interval)


def _report(options: argparse.Namespace) -> None:
    from launcher.report import report

    report(options.run_directory, options.out)
