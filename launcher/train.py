"""Train a recipe: `deepspeed launcher/train.py --ds_config ds_configs/zero2_cpu.json [--recipe NAME] [key=value ...]`.

The same command, run again, goes on where the run stopped; a finished run prints its closing table again.
"""

import argparse
import contextlib
import os
import sys
import time
import traceback
import warnings
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from shards.errors import InputError
from shards.printable import error_line
from trainer.liveness.exit_codes import BAD_INPUT, FINISHED, STOPPED
from trainer.liveness.stop import EarlyStop, StopSignal
from trainer.liveness.waits import FIRST_RANK_PRINTS_SECONDS, PEER_PRINTS_SECONDS, UNEXPECTED_SECONDS
from trainer.terminal.log import log
from trainer.terminal.output import make_output_unbreakable
from trainer.terminal.text import PrintableStream

if TYPE_CHECKING:
    from trainer.ranks import Ranks

DEFAULT_RECIPE = "d2tv"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    from trainer.recipe.values import recipe_names

    parser = argparse.ArgumentParser(
        prog="deepspeed launcher/train.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"recipes: {', '.join(recipe_names())}. Every key of a recipe can be overridden: "
        "`training.steps=100 run=runs/short`. `d2tv recipe NAME` prints one with all its keys.",
    )
    parser.add_argument("--ds_config", type=Path, required=True, help="DeepSpeed keys, e.g. ds_configs/zero2_cpu.json")
    parser.add_argument(
        "--recipe", default=DEFAULT_RECIPE, help=f"name or path of a recipe (default: {DEFAULT_RECIPE})"
    )
    parser.add_argument(
        "--resume",
        choices=("auto", "never", "must"),
        default="auto",
        help="auto: go on from the newest sound checkpoint of run=, if there is one (default); never: refuse a run= "
        "that has checkpoints; must: refuse one that has none",
    )
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)  # the launcher adds it
    parser.add_argument("--supervisor", default=None, help=argparse.SUPPRESS)  # `d2tv train` adds it
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values that override the recipe's")
    # Options may stand between the key=value words.
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train; the exit code is one of trainer/liveness/exit_codes.py."""
    with EarlyStop() as early:
        return _train(parse_arguments(sys.argv[1:] if arguments is None else arguments), early)


def _train(options: argparse.Namespace, early: EarlyStop) -> int:
    from trainer.plan import plan_run
    from trainer.ranks import ranks_from_environment
    from trainer.recipe import load_recipe
    from trainer.runs.lock import check_free
    from trainer.terminal.progress import stage

    try:
        ranks = ranks_from_environment()
        recipe = load_recipe(options.recipe, options.overrides)
        check_free(recipe.run, options.supervisor)
        with stage("checking corpus, tokenizer and checkpoints", quiet=not ranks.is_first):
            plan = plan_run(recipe, options.ds_config, ranks, options.resume)
    except InputError as error:
        early.code = BAD_INPUT  # the launcher ends the other ranks of a host when the first leaves
        return refuse(error)
    # What is refused above takes no import of torch and DeepSpeed, which is seconds.
    from trainer.distributed import PeerError, join, leave
    from trainer.liveness.watchdog import Watchdog
    from trainer.run import evaluate, open_run, train

    # torch warns of its own deprecated call inside DeepSpeed, once a rank; a person can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    # From here on an end without `watchdog.close` counts as a death, which ends the other ranks.
    watchdog = Watchdog.start(ranks, plan.recipe.run, plan.recipe.watchdog)
    early.farewell = partial(watchdog.close, "stopped")
    sys.excepthook = end_at_once
    # Signals are ignored before the watchdog closes, which could not pass them on any more.
    signals = contextlib.ExitStack()
    lock = contextlib.ExitStack()
    try:
        with stage("joining the other ranks", quiet=not ranks.is_first):
            device = join(ranks, patient=plan.recipe.watchdog.enabled)
        # Not before: a rank that waits for others to join has nothing to save, and must end when its launcher says.
        stop = StopSignal(watchdog.notify_fd)
        early.hand_over()
        signals.callback(stop.ignore)
        watchdog.connect()
        _lock_run(lock, recipe.run, options.supervisor, ranks)
        with open_run(plan, device, watchdog, stop) as run:
            if train(run):
                evaluate(run)
        leave()
    except InputError as error:
        # Only this rank may have met it (a damaged shard, say), so it prints whichever rank it is.
        log.error(error_line(error), extra={"rank": ranks.rank})
        signals.close()
        watchdog.close("failed")
        return BAD_INPUT
    except PeerError:
        signals.close()
        watchdog.close("failed")
        time.sleep(PEER_PRINTS_SECONDS)
        return BAD_INPUT
    finally:
        lock.close()
    signals.close()
    watchdog.close()
    return FINISHED if run.outcome == "finished" else STOPPED


def _lock_run(lock: contextlib.ExitStack, run: Path, supervisor: str | None, ranks: "Ranks") -> None:
    """Have rank 0 take the run's lock into `lock` (all ranks call this).

    Raises `InputError` on rank 0 and `PeerError` on the others where another training has the run.
    """
    from trainer.distributed import together
    from trainer.runs.lock import hold_run, how_started

    with together():
        if ranks.is_first:
            lock.enter_context(hold_run(run, supervisor, how_started(os.environ, supervisor)))


def end_at_once(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the process at an unexpected exception, without clean-up that may wait for threads and other ranks."""
    time.sleep(UNEXPECTED_SECONDS)
    # torch calls this with sys.stderr held back, to print it afterwards: there is no afterwards.
    with contextlib.suppress(OSError):
        traceback.print_exception(kind, error, trace, file=PrintableStream(sys.__stderr__ or sys.stderr))
    sys.stdout.flush()
    os._exit(1)


def refuse(error: InputError) -> int:
    """Print an error once a host: its ranks see the same input, so the first prints and the others wait."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        log.error(error_line(error))
    else:
        time.sleep(FIRST_RANK_PRINTS_SECONDS)
    return BAD_INPUT


if __name__ == "__main__":
    make_output_unbreakable()
    code = main()
    sys.stdout.flush()
    sys.exit(code)
