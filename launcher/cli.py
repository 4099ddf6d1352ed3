"""The `d2tv` command: corpora, recipes, runs, evaluation.

Training is `deepspeed launcher/train.py`, or `d2tv train`, which starts it again when it dies.
"""

import argparse
import shlex
import sys
from pathlib import Path

from shards.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand. Exit code 2 and one line for an input that a person can mend."""
    options = _parse(arguments)
    try:
        return int(options.run(options) or 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted" + (": the same command goes on from here" if options.goes_on else ""), file=sys.stderr)
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options may stand between and behind the key=value words, or the files."""
    options, rest = _parser().parse_known_args(arguments)
    words = next((name for name in ("overrides", "files") if hasattr(options, name)), None)
    if rest and (words is None or any(word.startswith("-") for word in rest)):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if words is not None:
        setattr(options, words, [*getattr(options, words), *rest])
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="d2tv", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser(
        "prepare",
        help="build a corpus: fetch, features, tokenizer, shards, index",
        description="Build a corpus: WebDataset shards, index and tokenizer. Killed, the same command goes on.",
        epilog="On a cluster: `--part i/n` in every task of a job array, then once the same with --finish for --part.",
    )
    prepare.add_argument("source", metavar="SOURCE", help="emoji, help (Mallard pages) or crosssum (XL-Sum, CrossSum)")
    prepare.add_argument("--data", type=Path, metavar="DIR", help="the source's files (help: /usr/share/help)")
    prepare.add_argument("--out", type=Path, metavar="DIR", help="corpus directory (default: data/SOURCE)")
    prepare.add_argument(
        "--cache", type=Path, metavar="DIR", help="downloads (default: $D2TV_CACHE, else ~/.cache/d2tv)"
    )
    prepare.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    prepare.add_argument("--part", metavar="I/N", help="write the I-th of N parts of the shards, I from 1, and no more")
    prepare.add_argument("--finish", action="store_true", help="all parts are done: tokenizer, index and manifest")
    prepare.add_argument(
        "--max-problems", type=int, default=1000, metavar="N", help="bad input to bear with (default: %(default)s)"
    )
    prepare.add_argument(
        "--without-images", action="store_true", help="crosssum: text alone, files of features are not read"
    )
    prepare.add_argument(
        "--pixels",
        action="store_true",
        help="emoji, help: keep the images beside their features (default: features alone)",
    )
    prepare.add_argument("--vocab-size", type=int, metavar="N", help="SentencePiece pieces (default: the source's)")
    prepare.add_argument("--stories", type=int, metavar="N", help="only the first so many stories, for trials")
    prepare.add_argument(
        "--stories-per-shard", type=int, default=64, metavar="N", help="how large shards are (default: %(default)s)"
    )
    prepare.set_defaults(run=_prepare, goes_on=True)

    train = commands.add_parser(
        "train",
        help="train a recipe: `deepspeed launcher/train.py`, started again when it dies",
        description="Run `deepspeed launcher/train.py` until the run is finished, and start it again from its last "
        "whole checkpoint when it dies. Exit codes: 0 finished, 2 bad input, 75 stopped by a signal (the same command "
        "goes on); none of these is started again.",
        epilog="SIGTERM, SIGINT (Ctrl-C) or SIGUSR1: all ranks write a checkpoint and leave; a second signal, 3 s "
        "later or more, kills them.",
    )
    train.add_argument(
        "--max-restarts",
        type=int,
        default=3,
        metavar="N",
        help="give up after N restarts in a row without a new checkpoint; a new one sets the count back to 0 "
        "(default: %(default)s). Pauses: 1, 2, 4 ... 60 s, 1 s after a new checkpoint",
    )
    train.add_argument(
        "--ranks",
        type=int,
        metavar="R",
        help="ranks a host (default: DeepSpeed's: one an accelerator; with DS_ACCELERATOR=cpu one a NUMA node)",
    )
    train.add_argument("--hostfile", type=Path, metavar="F", help="hosts and their slots, for several (default: none)")
    train.add_argument(
        "--ds_config", type=Path, required=True, metavar="FILE", help="DeepSpeed keys, e.g. ds_configs/zero2_cpu.json"
    )
    train.add_argument("--recipe", default="d2tv", metavar="NAME", help="name or path (default: %(default)s)")
    train.add_argument(
        "--resume", choices=("auto", "never", "must"), help="as for train.py, at the first start; then auto"
    )
    train.add_argument("overrides", nargs="*", metavar="key=value", help="values that override the recipe's")
    train.set_defaults(run=_train, goes_on=True)

    recipe = commands.add_parser("recipe", help="print a recipe with all its keys, or list the recipes")
    recipe.add_argument("name", nargs="?", help="name or path; none: list them")
    recipe.add_argument("overrides", nargs="*", metavar="key=value")
    recipe.set_defaults(run=_recipe, goes_on=False)

    evaluate = commands.add_parser(
        "evaluate",
        help="decode and score a run's newest checkpoint, another one, or an exported model",
        description="Decode and score. Predictions, scores and a page lie in RUN/evaluation, or in MODEL/evaluation.",
    )
    evaluate.add_argument(
        "trained",
        type=Path,
        metavar="RUN|CHECKPOINT|MODEL",
        help="a run (its newest checkpoint), RUN/checkpoints/step-* (or latest, best), or what `d2tv export` wrote",
    )
    evaluate.add_argument("--split", choices=("validation", "test"), default="test")
    evaluate.add_argument(
        "--directions", metavar="LIST", help="all, mms, mxls, or like 'en-ru,*-ur' (default: evaluation.directions)"
    )
    evaluate.add_argument(
        "--perturb",
        metavar="LIST",
        help="also with perturbed documents or images: all, text, vision, a family or kinds, e.g. keyboard,no_images",
    )
    evaluate.add_argument(
        "--severities", default="1,2,3,4,5", metavar="LIST", help="of perturbations (default: %(default)s)"
    )
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. evaluation.num_beams=1")
    evaluate.set_defaults(run=_evaluate, goes_on=True)

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

    compare = commands.add_parser(
        "compare",
        help="evaluations of several runs side by side, with significance",
        description="Compare the scores of runs on the same examples, tested against the first (or --baseline) by "
        "paired bootstrap over stories. NAME=RUN,RUN,... is one model trained several times: the mean of its scores.",
    )
    compare.add_argument(
        "runs", nargs="+", metavar="RUN", help="evaluated runs, the baseline first; or NAME=RUN,RUN,..."
    )
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

    study = commands.add_parser(
        "study",
        help="train several models with several seeds, and write their table with significance",
        description="Train all models of a study one after the other, evaluate them, and write the paper's table, "
        "which of its claims hold, the spread over seeds and what it cost. Killed, the same command goes on.",
        epilog="studies: table1 (D2TV's five models on four languages of the emoji corpus)",
    )
    study.add_argument("study", metavar="STUDY", help="name, or path of a YAML file like launcher/studies/table1.yaml")
    study.add_argument("--out", type=Path, metavar="DIR", help="its runs and results (default: studies/NAME)")
    study.add_argument(
        "--ds_config", type=Path, required=True, metavar="FILE", help="DeepSpeed keys, e.g. ds_configs/zero2_cpu.json"
    )
    study.add_argument("--ranks", type=int, metavar="R", help="ranks a host, as for d2tv train")
    study.add_argument("--samples", type=int, default=20_000, metavar="N", help="resamples (default: %(default)s)")
    study.add_argument("overrides", nargs="*", metavar="key=value", help="values that override every recipe's")
    study.set_defaults(run=_study, goes_on=True)

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
    summarize.add_argument("files", nargs="*", metavar="FILE", help="text, or *.jsonl; none or -: standard input")
    summarize.set_defaults(run=_summarize, goes_on=False)

    export = commands.add_parser(
        "export",
        help="write a checkpoint as a model directory: safetensors, tokenizer, recipe, model card",
        description="Write a checkpoint as a directory that `d2tv evaluate` loads, and transformers its text part.",
    )
    export.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="RUN/checkpoints/step-* (or latest, best), or a run: its newest",
    )
    export.add_argument("directory", type=Path, metavar="DIR", help="new or empty")
    export.add_argument("--dtype", default="fp32", help="fp32 (the masters), bf16 or fp16 (default: %(default)s)")
    export.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="corpus.path=, corpus.tokenizer=, network.text.pretrained= where these moved since",
    )
    export.set_defaults(run=_export, goes_on=False)

    inspect = commands.add_parser(
        "inspect", help="show a corpus: languages, directions, lengths, images, and what a recipe's mixture makes of it"
    )
    inspect.add_argument("corpus", metavar="DATA", help="corpus directory or URL")
    inspect.add_argument("--recipe", default="d2tv", help="whose mixture, by name or path (default: %(default)s)")
    inspect.add_argument("--split", choices=("train", "validation", "test"), default="train")
    inspect.add_argument("--html", type=Path, metavar="FILE", help="write a page with all numbers as well")
    inspect.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. mixture.outer_exponent=1")
    inspect.set_defaults(run=_inspect, goes_on=False)

    preview = commands.add_parser("preview", help="write a page that shows one story: articles, edges, image regions")
    preview.add_argument("corpus", metavar="DATA", help="corpus directory or URL")
    preview.add_argument("--story", required=True, metavar="ID", help="key, number, or the beginning of a key")
    preview.add_argument("--out", type=Path, metavar="FILE", help="the page (default: preview-KEY.html)")
    preview.set_defaults(run=_preview, goes_on=False)

    verify = commands.add_parser("verify", help="read every byte of a corpus and list all that is wrong (exit code 1)")
    verify.add_argument("corpus", metavar="DATA", help="corpus directory")
    verify.add_argument("--workers", type=int, help="processes that read shards (default: one a core)")
    verify.set_defaults(run=_verify, goes_on=False)
    return parser


def _prepare(options: argparse.Namespace) -> None:
    from launcher.preparation.prepare import prepare
    from launcher.preparation.settings import Share, parse_part, settings_for
    from shards.corpora.npm import default_cache

    settings = settings_for(
        options.source,
        vocab_size=options.vocab_size,
        stories=options.stories,
        stories_per_shard=options.stories_per_shard,
        without_images=options.without_images,
        pixels=options.pixels,
    )
    share = Share(
        workers=options.workers,
        part=parse_part(options.part) if options.part else None,
        finish=options.finish,
        max_problems=options.max_problems,
    )
    out, cache = options.out or Path("data") / options.source, options.cache or default_cache()
    prepare(settings, out, cache, options.data, share)


def _train(options: argparse.Namespace) -> int:
    from launcher.supervise import Job, supervise

    return supervise(
        Job(
            recipe=options.recipe,
            overrides=options.overrides,
            ds_config=options.ds_config,
            resume=options.resume,
            ranks=options.ranks,
            hostfile=options.hostfile,
            max_restarts=options.max_restarts,
        )
    )


def _recipe(options: argparse.Namespace) -> None:
    from trainer.recipe import load_recipe, recipe_names

    if options.name is None:
        print("\n".join(recipe_names()))
    else:
        print(load_recipe(options.name, options.overrides).dump(), end="")


def _evaluate(options: argparse.Namespace) -> None:
    from launcher.evaluate import evaluate
    from trainer.evaluation.robustness.plan import parse_wanted

    wanted = None if options.perturb is None else parse_wanted(options.perturb, options.severities)
    evaluate(options.trained, options.split, options.overrides, options.directions, wanted)


def _watch(options: argparse.Namespace) -> None:
    from launcher.watch.watch import watch

    watch(options.run_directory, once=options.once, interval=options.interval)


def _report(options: argparse.Namespace) -> None:
    from launcher.report import report

    report(options.run_directory, options.out)


def _compare(options: argparse.Namespace) -> None:
    from launcher.comparison.compare import compare
    from launcher.comparison.sheet import show

    sheet = compare(
        options.runs,
        split=options.split,
        by=options.by,
        languages=options.languages.split(",") if options.languages else None,
        baseline=options.baseline,
        measures=options.measure or ["rouge1", "rouge2", "rougeL"],
        samples=options.samples,
        seed=options.seed,
    )
    show(sheet, options.format, options.out)


def _study(options: argparse.Namespace) -> int:
    from launcher.study.run import study

    return study(
        options.study,
        options.out,
        ds_config=options.ds_config,
        ranks=options.ranks,
        samples=options.samples,
        overrides=options.overrides,
        command=f"d2tv {shlex.join(sys.argv[1:])}",
    )


def _summarize(options: argparse.Namespace) -> None:
    from launcher.summarize import Defaults, summarize

    defaults = Defaults(source=options.source, target=options.to, images=tuple(options.images))
    summarize(options.trained, options.files, defaults, options.set)


def _export(options: argparse.Namespace) -> None:
    from trainer.export import export_model

    export_model(options.checkpoint, options.directory, options.dtype, options.overrides)


def _inspect(options: argparse.Namespace) -> None:
    from launcher.inspection.inspect_corpus import inspect_corpus

    inspect_corpus(options.corpus, options.recipe, options.overrides, split=options.split, html=options.html)


def _preview(options: argparse.Namespace) -> None:
    from launcher.preview import preview

    preview(options.corpus, options.story, options.out)


def _verify(options: argparse.Namespace) -> int:
    from launcher.verification.verify import default_workers, verify

    return verify(options.corpus, default_workers() if options.workers is None else options.workers)


if __name__ == "__main__":
    sys.exit(main())
