"""Define the command that has people rate summaries, and reads their ratings."""

import argparse
from pathlib import Path
from typing import Any

#: Options of only one form of the command, with their defaults.
_WRITING: dict[str, Any] = {
    "split": "test",
    "directions": None,
    "examples": 50,
    "document": "target",
    "reference": False,
    "corpus": None,
    "out": Path("annotation.html"),
}
_READING: dict[str, Any] = {"baseline": None, "samples": 10_000, "format": "text", "json": None}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser; the command imports what it needs when it runs."""
    annotate = commands.add_parser(
        "annotate",
        help="have people rate summaries of several systems blindly, and read their files back",
        usage="d2tv annotate RUN [RUN ...] [--out PAGE.html] [options]\n"
        "       d2tv annotate PAGE.key.json --ratings FILE [FILE ...] [options]",
        description="Write one page, which works offline, on which people rate what systems wrote for fluency, "
        "conciseness and informativeness, without knowing which wrote what; the key to that lies beside it. With "
        "--ratings: read the files that they saved, and print means, significance and Fleiss' kappa.",
    )
    annotate.add_argument(
        "runs",
        nargs="+",
        metavar="RUN|KEY",
        help="evaluated runs, RUN/evaluation/LABEL, FILE.jsonl, baselines (lead, oracle, nearest), or NAME=RUN; with "
        "--ratings: the page's key",
    )
    annotate.add_argument("--seed", type=int, default=0, metavar="S", help="of what is drawn (default: %(default)s)")
    page = annotate.add_argument_group("writing a page")
    page.add_argument("--out", type=Path, metavar="PAGE", help="default: annotation.html; its key: annotation.key.json")
    page.add_argument("--examples", type=int, metavar="N", help="drawn, as many of each direction (default: 50)")
    page.add_argument("--directions", metavar="LIST", help="all, mms, mxls, or like 'en-en,ru-en' (default: all)")
    page.add_argument("--split", choices=("validation", "test"), help="default: test")
    page.add_argument(
        "--document",
        choices=("source", "target"),
        help="whose article is shown: target (default), so that annotators read one language, as for D2TV's Table 3; "
        "or source, which the systems read",
    )
    page.add_argument(
        "--reference", action="store_true", default=None, help="show the reference, as for ACROSS' Table 4"
    )
    page.add_argument("--corpus", metavar="DIR", help="with the documents (default: that of the first run's recipe)")
    reading = annotate.add_argument_group("reading ratings")
    reading.add_argument("--ratings", type=Path, nargs="+", metavar="FILE", help="one of each annotator")
    reading.add_argument("--baseline", metavar="NAME", help="what the others are tested against (default: the first)")
    reading.add_argument("--samples", type=int, metavar="N", help="resamples (default: 10000)")
    reading.add_argument("--format", choices=("text", "markdown", "latex"), help="default: text")
    reading.add_argument("--json", type=Path, metavar="FILE", help="where to write every number")
    annotate.set_defaults(run=_annotate, goes_on=False)


def _annotate(options: argparse.Namespace) -> None:
    from shards.errors import InputError

    reads = options.ratings is not None
    own, others = (_READING, _WRITING) if reads else (_WRITING, _READING)
    if given := [f"--{name}" for name in others if getattr(options, name) is not None]:
        of = "writes a page, for which there is no --ratings" if reads else "reads files: name them with --ratings"
        raise InputError(f"{', '.join(given)}: {of}")
    settings = {
        name: default if getattr(options, name) is None else getattr(options, name) for name, default in own.items()
    }
    if reads:
        from launcher.annotation.read import Asked, show_ratings

        if len(options.runs) > 1:
            raise InputError(f"{', '.join(options.runs)}: --ratings wants one key, of the one page that was rated")
        show_ratings(Path(options.runs[0]), options.ratings, Asked(**settings, seed=options.seed))
        return
    from launcher.annotation.write import Wanted, write_annotation

    if key := next((word for word in options.runs if word.endswith(".key.json") and Path(word).is_file()), None):
        raise InputError(f"{key} is the key of a page: name what annotators saved with --ratings FILE ...")
    write_annotation(options.runs, Wanted(**settings, seed=options.seed))
