"""Define the commands for corpora: build one, show it, verify it."""

import argparse
from pathlib import Path

from shards.corpora import SOURCES


def _those(can: str) -> str:
    return ", ".join(name for name, entry in SOURCES.items() if getattr(entry, can))


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parsers; a command imports what it needs when it runs."""
    prepare = commands.add_parser(
        "prepare",
        help="build a corpus: fetch, features, tokenizer, shards, index",
        description="Build a corpus: WebDataset shards, index and tokenizer. Killed, the same command goes on.",
        epilog="On a cluster: `--part i/n` in every task of a job array, then once the same with --finish for --part.",
    )
    prepare.add_argument(
        "source", metavar="SOURCE", help="; ".join(f"{name}: {SOURCES[name].made_from}" for name in SOURCES)
    )
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
        "--without-images",
        action="store_true",
        help=f"{_those('without_images')}: text alone, files of features are not read",
    )
    prepare.add_argument(
        "--pixels",
        action="store_true",
        help=f"{_those('keeps_pixels')}: keep the images beside their features (default: features alone)",
    )
    prepare.add_argument("--vocab-size", type=int, metavar="N", help="SentencePiece pieces (default: the source's)")
    prepare.add_argument("--stories", type=int, metavar="N", help="only the first so many stories, for trials")
    prepare.add_argument(
        "--stories-per-shard", type=int, default=64, metavar="N", help="how large shards are (default: %(default)s)"
    )
    _add_augmentation(prepare)
    prepare.set_defaults(run=_prepare, goes_on=True)

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
    verify.add_argument("--workers", type=int, help="processes that read shards (default: by cores and size)")
    verify.set_defaults(run=_verify, goes_on=False)


def _add_augmentation(prepare: argparse.ArgumentParser) -> None:
    augment = prepare.add_argument_group(
        "augmentation of the training split",
        "Further sources of its articles: documents of which some sentences are translated (ACROSS, section 3.3).",
    )
    augment.add_argument(
        "--augment",
        metavar="CHOICE",
        help="translate the sentences that are informative (highest ROUGE-1 against the summary), uninformative, "
        "random, or the first (truncation)",
    )
    augment.add_argument("--augment-share", type=int, metavar="N", help="percent of the sentences (default: 50)")
    augment.add_argument(
        "--augment-directions", metavar="PATTERN", help="directions that get examples (default: *-en, all into English)"
    )
    augment.add_argument(
        "--translator",
        metavar="parallel|DIR",
        help="parallel (the default): the story's article in the other language, by position; else the directory of an "
        "NLLB or M2M100 model",
    )
    augment.add_argument("--augment-seed", type=int, metavar="N", help="of the choice random (default: 0)")


def _prepare(options: argparse.Namespace) -> None:
    from launcher.preparation.augmentation.settings import augmentation_of
    from launcher.preparation.prepare import prepare
    from launcher.preparation.settings import Share, parse_part, settings_for
    from shards.files.caches import default_cache

    settings = settings_for(
        options.source,
        vocab_size=options.vocab_size,
        stories=options.stories,
        stories_per_shard=options.stories_per_shard,
        without_images=options.without_images,
        pixels=options.pixels,
        augment=augmentation_of(
            options.augment,
            share=options.augment_share,
            directions=options.augment_directions,
            translator=options.translator,
            seed=options.augment_seed,
        ),
    )
    share = Share(
        workers=options.workers,
        part=parse_part(options.part) if options.part else None,
        finish=options.finish,
        max_problems=options.max_problems,
    )
    out, cache = options.out or Path("data") / options.source, options.cache or default_cache()
    prepare(settings, out, cache, options.data, share)


def _inspect(options: argparse.Namespace) -> None:
    from launcher.inspection.inspect_corpus import inspect_corpus

    inspect_corpus(options.corpus, options.recipe, options.overrides, split=options.split, html=options.html)


def _preview(options: argparse.Namespace) -> None:
    from launcher.preview import preview

    preview(options.corpus, options.story, options.out)


def _verify(options: argparse.Namespace) -> int:
    from launcher.verify import default_workers, verify

    return verify(options.corpus, default_workers(options.corpus) if options.workers is None else options.workers)
