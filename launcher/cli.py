"""The `d2tv` command: corpora, recipes, runs, evaluation.

Training is `deepspeed launcher/train.py`, or `d2tv train`, which starts it again when it dies.
"""

import argparse
import errno
import sys

from launcher.commands import annotation, corpora, evaluation, training, watching
from shards.errors import InputError, out_of_memory
from shards.printable import error_line, one_line
from trainer.terminal.log import log
from trainer.terminal.text import printable_output


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand. Return 2, with one line, for an input error."""
    with printable_output():
        options = _parse(arguments)
        try:
            return int(options.run(options) or 0)
        except InputError as error:
            log.error(error_line(error))
            return 2
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # commands handle all others
                raise
            name = str(error.filename)
            log.error(f"{one_line(name[:80])}...: a name may have 255 bytes, a path 4,096")
            return 2
        except (MemoryError, RuntimeError) as error:
            if (why := out_of_memory(error)) is None:
                raise
            log.error(f"memory does not suffice ({why}): lower batch sizes, beams or workers")
            return 2
        except KeyboardInterrupt:
            print("interrupted" + (": the same command goes on from here" if options.goes_on else ""), file=sys.stderr)
            return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse options that may stand between and after the key=value words, or the files."""
    options, rest = _parser().parse_known_args(arguments)
    words = next((name for name in ("overrides", "files") if hasattr(options, name)), None)
    if rest and (words is None or any(word.startswith("-") and word != "-" for word in rest)):
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if words is not None:
        setattr(options, words, [*getattr(options, words), *rest])
    return options


def _parser() -> argparse.ArgumentParser:
    """Return the parser. Commands set `run`, and `goes_on`: True if the same command continues after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="d2tv", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (corpora, training, evaluation, annotation, watching):
        group.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
