"""Define the commands for training, studies and recipes, and for importing and exporting models."""

import argparse
import shlex
import sys
from pathlib import Path

from launcher.commands.evaluation import add_product


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parsers; a command imports what it needs when it runs."""
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

    study = commands.add_parser(
        "study",
        help="train several models with several seeds, and write their table with significance",
        description="Train all models of a study one after the other, evaluate them, and write the paper's table, "
        "which of its claims hold, the spread over seeds and what it cost. Killed, the same command goes on.",
        epilog="studies, on four languages of the emoji corpus: table1, table2 and distillation "
        "(D2TV's), across and across_selection (ACROSS' Tables 2 and 3), rc3_translation and rc3_retrieval (RC³'s "
        "Tables 1 to 4), amid (AMID's Tables 4 and 5)",
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

    release = commands.add_parser(
        "import",
        help="take over the text part of a published mT5 checkpoint (CrossSum's, D2TV's release)",
        description="Write the mT5 of a published checkpoint as a directory for network.text.pretrained= and "
        "corpus.tokenizer=, and list what of it has no place here, with why.",
    )
    release.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="a directory with config.json and pytorch_model.bin or model.safetensors, or a file of weights beside one",
    )
    release.add_argument("--out", type=Path, required=True, metavar="DIR", help="new or empty")
    release.set_defaults(run=_import, goes_on=False)

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
    add_product(export)
    export.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="corpus.path=, corpus.tokenizer=, network.text.pretrained= where these moved since",
    )
    export.set_defaults(run=_export, goes_on=False)


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
    from trainer.recipe import load_recipe
    from trainer.recipe.values import recipe_names
    from trainer.terminal.text import data_output

    if options.name is None:
        print("\n".join(recipe_names()))
    else:
        print(load_recipe(options.name, options.overrides).dump(), end="", file=data_output())


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


def _import(options: argparse.Namespace) -> None:
    from trainer.export.release import import_release

    import_release(options.checkpoint, options.out)


def _export(options: argparse.Namespace) -> None:
    from trainer.export.model import export_model

    export_model(options.checkpoint, options.directory, options.dtype, options.overrides, options.product)
