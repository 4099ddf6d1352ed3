"""Define the commands that evaluate, compare and use models."""

import argparse
from pathlib import Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parsers; a command imports what it needs when it runs."""
    evaluate = commands.add_parser(
        "evaluate",
        help="decode and score a run's newest checkpoint, another one or an exported model; score a file's predictions",
        description="Decode and score. Predictions, scores and a page lie in RUN/evaluation, or in MODEL/evaluation; "
        "those of another checkpoint, directions or settings than the run's own in RUN/evaluation/LABEL, called by "
        "what differs; those of FILE.jsonl in FILE/evaluation. Baselines are scored on the same examples.",
    )
    evaluate.add_argument(
        "trained",
        type=Path,
        metavar="RUN|CHECKPOINT|MODEL|FILE.jsonl",
        help="a run (its newest checkpoint), RUN/checkpoints/step-* (or latest, best), what `d2tv export` wrote, or "
        'predictions of any system, a line each: {"story"|"url", "source", "target", "prediction"}',
    )
    evaluate.add_argument("--corpus", metavar="DIR", help="that the predictions of FILE.jsonl are of")
    evaluate.add_argument("--split", choices=("validation", "test"), default="test")
    evaluate.add_argument(
        "--directions", metavar="LIST", help="all, mms, mxls, or like 'en-ru,*-ur' (default: evaluation.directions)"
    )
    evaluate.add_argument(
        "--task",
        metavar="NAME",
        help="summarization, translation, retrieval, classification, representation, or with --data xvnli, xgqa, marvl "
        "(default: evaluation.task)",
    )
    evaluate.add_argument(
        "--data", type=Path, metavar="DIR", help="the files of that data set as published, or a corpus prepared of them"
    )
    evaluate.add_argument(
        "--perturb",
        metavar="LIST",
        help="also with perturbed documents or images: all, text, vision, sources (how much of "
        "the score comes from the document and the images), a family or kinds, e.g. keyboard,no_images",
    )
    evaluate.add_argument(
        "--severities", default="1,2,3,4,5", metavar="LIST", help="of perturbations (default: %(default)s)"
    )
    add_product(evaluate)
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. evaluation.num_beams=1")
    evaluate.set_defaults(run=_evaluate, goes_on=True)

    compare = commands.add_parser(
        "compare",
        help="evaluations of several runs side by side, with significance",
        description="Compare the scores of runs on the same examples, tested against the first (or --baseline) by "
        "paired bootstrap over stories. NAME=RUN,RUN,... is one model trained several times: the mean of its scores. "
        "A score below LEAD's on the same examples is marked.",
    )
    compare.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="evaluated runs, the baseline first; RUN/evaluation/LABEL; lead, oracle, nearest; FILE.jsonl, predictions "
        "of any system; or NAME=RUN,RUN,...",
    )
    compare.add_argument("--corpus", metavar="DIR", help="that a FILE.jsonl is of (default: the first run's)")
    compare.add_argument("--split", choices=("validation", "test"), default="test")
    compare.add_argument(
        "--by",
        choices=("kind", "target", "source", "direction", "blocks"),
        default="kind",
        help="what a row is of; blocks: the layout of the paper's Table 1 (default: %(default)s)",
    )
    compare.add_argument("--languages", metavar="en,ru,...", help="only directions between these (default: all)")
    compare.add_argument("--baseline", metavar="NAME", help="what the others are tested against (default: the first)")
    compare.add_argument(
        "--measure", action="append", metavar="NAME", help="again for several (default: rouge1, rouge2, rougeL)"
    )
    compare.add_argument("--samples", type=int, default=10_000, metavar="N", help="resamples (default: %(default)s)")
    compare.add_argument("--seed", type=int, default=0, metavar="S", help="of the resamples (default: %(default)s)")
    compare.add_argument("--format", choices=("text", "markdown", "latex", "html"), default="text")
    compare.add_argument("--out", type=Path, metavar="FILE", help="where it goes (default: standard output)")
    compare.set_defaults(run=_compare, goes_on=False)

    summarize = commands.add_parser(
        "summarize",
        help="write summaries with a trained model: files, JSONL or standard input",
        description="Write the summary of each document to standard output. A JSONL line has text, and may have from, "
        "to and images (paths beside the file); it comes back with its summary.",
    )
    summarize.add_argument(
        "trained", type=Path, metavar="MODEL", help="what `d2tv export` wrote, a checkpoint, or a run: its newest"
    )
    summarize.add_argument("--to", metavar="LANGUAGE", help="name or code; JSONL lines may have their own")
    summarize.add_argument("--from", dest="source", metavar="LANGUAGE", help="of the document; mBART-50 wants to know")
    summarize.add_argument("--images", type=Path, nargs="+", default=[], metavar="IMAGE", help="of the one document")
    summarize.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="evaluation.num_beams=1, ..."
    )
    add_product(summarize)
    summarize.add_argument("files", nargs="*", metavar="FILE", help="text, or *.jsonl; none or -: standard input")
    summarize.set_defaults(run=_summarize, goes_on=False)


def add_product(command: argparse.ArgumentParser) -> None:
    """Add --product to a command that loads a network."""
    command.add_argument(
        "--product", metavar="NAME", help="of an objective that trains several networks (default: its first)"
    )


def _evaluate(options: argparse.Namespace) -> None:
    from launcher.evaluate import evaluate

    wanted = None
    if options.perturb is not None:
        from trainer.evaluation.robustness.plan import parse_wanted

        wanted = parse_wanted(options.perturb, options.severities)
    evaluate(
        options.trained,
        options.split,
        options.overrides,
        options.directions,
        wanted,
        options.corpus,
        options.product,
        options.task,
        options.data,
    )


def _compare(options: argparse.Namespace) -> None:
    from launcher.comparison.compare import compare
    from launcher.comparison.sheet import check_out, show
    from trainer.evaluation.compare.systems import parse_systems
    from trainer.terminal.progress import stage
    from trainer.terminal.text import Console

    systems = parse_systems(options.runs)
    check_out(options.format, options.out, [run for system in systems for run in system.runs])
    with stage("comparing", out=Console(stderr=True)):
        sheet = compare(
            systems,
            split=options.split,
            by=options.by,
            languages=None if options.languages is None else [word for word in options.languages.split(",") if word],
            baseline=options.baseline,
            measures=list(dict.fromkeys(options.measure or ("rouge1", "rouge2", "rougeL"))),
            samples=options.samples,
            seed=options.seed,
            corpus=options.corpus,
        )
    show(sheet, options.format, options.out)


def _summarize(options: argparse.Namespace) -> None:
    from launcher.documents import Defaults
    from launcher.summarize import summarize

    defaults = Defaults(source=options.source, target=options.to, images=tuple(options.images))
    summarize(options.trained, options.files, defaults, options.set, options.product)
