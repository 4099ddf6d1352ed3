"""The `d2tv` command: corpora, recipes and evaluation. Training is `deepspeed launcher/train.py`."""

import argparse
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
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options may stand between and behind the key=value words."""
    options, rest = _parser().parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(word.startswith("-") for word in rest)):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    from shards.corpora.npm import default_cache

    parser = argparse.ArgumentParser(prog="d2tv", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser("prepare", help="build a corpus: fetch, features, tokenizer, shards, index")
    prepare.add_argument("source", help="emoji")
    prepare.add_argument("--out", type=Path, help="corpus directory (default: data/SOURCE)")
    prepare.add_argument("--cache", type=Path, default=default_cache(), help="downloads (default: %(default)s)")
    prepare.add_argument("--vocab-size", type=int, default=1500, help="SentencePiece pieces (default: %(default)s)")
    prepare.add_argument("--stories", type=int, help="only the first so many stories, for trials")
    prepare.set_defaults(run=_prepare)

    recipe = commands.add_parser("recipe", help="print a recipe with all its keys, or list the recipes")
    recipe.add_argument("name", nargs="?", help="name or path; none: list them")
    recipe.add_argument("overrides", nargs="*", metavar="key=value")
    recipe.set_defaults(run=_recipe)

    evaluate = commands.add_parser("evaluate", help="decode and score a run's newest checkpoint")
    evaluate.add_argument("run_directory", type=Path, metavar="RUN")
    evaluate.add_argument("--split", choices=("validation", "test"), default="test")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. evaluation.directions=en-*")
    evaluate.set_defaults(run=_evaluate)
    return parser


def _prepare(options: argparse.Namespace) -> None:
    from launcher.prepare import PrepareSettings, prepare

    settings = PrepareSettings(source=options.source, vocab_size=options.vocab_size, stories=options.stories)
    prepare(settings, options.out or Path("data") / options.source, options.cache)


def _recipe(options: argparse.Namespace) -> None:
    from trainer.recipe import load_recipe, recipe_names

    if options.name is None:
        print("\n".join(recipe_names()))
    else:
        print(load_recipe(options.name, options.overrides).dump(), end="")


def _evaluate(options: argparse.Namespace) -> None:
    from trainer.evaluation.standalone import evaluate_run

    evaluate_run(options.run_directory, options.split, options.overrides)


if __name__ == "__main__":
    sys.exit(main())
