"""Print a corpus and write its page: `d2tv inspect`."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.text import Text

from launcher.inspection.facts import corpus_facts, mixture_facts
from launcher.pages.colours import RAMP, levels
from launcher.pages.corpus import CorpusFacts, MixtureFacts, corpus_page
from shards.files.write import check_output, write_output
from shards.format.index import open_corpus
from shards.printable import one_line
from trainer.recipe import load_recipe
from trainer.runs.words import percent
from trainer.terminal.progress import stage
from trainer.terminal.text import Console

_LABEL = 8  # columns of a row's label in the heat map
_TOTAL = 11  # and of its sum
_DIRECTIONS = 50  # of variants


def inspect_corpus(location: str, recipe_name: str, overrides: Sequence[str], *, split: str, html: Path | None) -> None:
    """Print what is in the corpus at `location` and what the recipe's mixture makes of it; with `html`, a page too.

    Raises `InputError` for a corpus or a recipe that cannot be read, a mixture that leaves nothing, a page that
    cannot be written.
    """
    check_output(html, reads=[Path(location)])
    recipe = load_recipe(recipe_name, overrides)
    with stage("reading the corpus", out=Console(stderr=True)):
        facts = corpus_facts(open_corpus(location), split)
        mixture = mixture_facts(facts, recipe, recipe_name)
    console = Console(file=sys.stdout)
    _print_totals(facts, console)
    if mixture is not None:
        _print_heat_map(facts, console)
    _print_languages(facts, console)
    _print_images(facts, console)
    _print_variants(facts, console)
    if mixture is None:
        _print_line(console, f"{split} has no examples: there is nothing to mix")
    else:
        _print_mixture(mixture, console)
    if html is not None:
        write_output(html, corpus_page(facts, mixture))
        _print_line(console, f"page: {html}")


def _print_line(console: Console, line: str | Text) -> None:
    console.print(one_line(line) if isinstance(line, str) else line, soft_wrap=True)


def _print_totals(facts: CorpusFacts, console: Console) -> None:
    _print_line(console, f"{facts.location}: {facts.name}, {len(facts.languages)} languages, {facts.content_hash[:16]}")
    _print_line(console, f"{'':<12}{'stories':>12}{'articles':>12}{'examples':>14}{'directions':>12}")
    for split, (stories, articles, edges, directions) in facts.totals.items():
        _print_line(console, f"{split:<12}{stories:>12,}{articles:>12,}{edges:>14,}{directions:>12,}")


def _print_heat_map(facts: CorpusFacts, console: Console) -> None:
    """Print examples by direction, in colours on a terminal that has enough of them, in digits elsewhere."""
    counts = facts.counts_TS
    room = console.width - _LABEL - _TOTAL
    shown = np.arange(len(facts.languages))
    if len(shown) > room:  # those with the most examples, in their order
        shown = np.sort(np.argsort(-(counts.sum(axis=0) + counts.sum(axis=1)), kind="stable")[:room])
    cell = 2 if 2 * len(shown) <= room else 1
    level, part = levels(counts[np.ix_(shown, shown)]), counts[np.ix_(shown, shown)]
    coloured = console.is_terminal and console.color_system in ("256", "truecolor")
    _print_line(console, "")
    _print_line(console, f"{facts.split}: examples by direction (rows: target language, columns: source language)")
    if len(shown) < len(facts.languages):
        _print_line(console, f"(the {len(shown)} largest of {len(facts.languages)} languages; all with --html)")
    codes = [facts.languages[index].code[: _LABEL - 1] for index in shown]
    for line in range(depth := max(map(len, codes))):
        letters = (code.rjust(depth)[line] for code in codes)
        _print_line(console, " " * _LABEL + "".join(letter.ljust(cell) for letter in letters).rstrip())
    for code, row, total in zip(codes, level, part.sum(axis=1), strict=True):
        text = Text(f"{code:<{_LABEL}}")
        for step in row.tolist():
            if coloured:
                text.append(("█" if step else "·") * cell, style=RAMP[step - 1] if step else "bright_black")
            else:
                text.append((str(step) if step else ".").ljust(cell))
        _print_line(console, text.append(f"{int(total):>{_TOTAL},}"))
    legend = Text(" " * _LABEL)
    for step in range(1, len(RAMP) + 1):
        if (of_step := part[level == step]).size:
            low, high = int(of_step.min()), int(of_step.max())
            entry = Text("██", style=RAMP[step - 1]) if coloured else Text(str(step))
            entry.append(f" {low:,}  " if low == high else f" {low:,}-{high:,}  ", style="default")
            if len(legend) + len(entry) > console.width:
                legend.rstrip()
                _print_line(console, legend)
                legend = Text(" " * _LABEL)
            legend.append(entry)
    legend.rstrip()
    _print_line(console, legend)


def _print_languages(facts: CorpusFacts, console: Console) -> None:
    of = "" if facts.sample is None else f" (of {facts.sample} articles a language and the longest)"
    _print_line(console, "")
    _print_line(console, f"{facts.split}: lengths in characters{of}")
    _print_line(console, f"{'':<20}{'':>10}{'document':>15}{'':>9}{'summary':>15}")
    _print_line(console, f"{'':<20}{'articles':>10}" + f"{'median':>8}{'95%':>7}{'longest':>9}" * 2)
    for language in facts.languages:
        numbers = "".join(
            f"{lengths.median:>8,}{lengths.most:>7,}{lengths.longest:>9,}"
            for lengths in (language.document, language.summary)
        )
        _print_line(console, f"{language.name:<20}{language.articles:>10,}{numbers}")


def _print_images(facts: CorpusFacts, console: Console) -> None:
    articles = int(facts.images.sum())
    _print_line(console, "")
    _print_line(console, f"{facts.split}: images an article")
    for images, count in enumerate(facts.images.tolist()):
        share = count / articles if articles else 0.0
        _print_line(console, f"{images:>8}{count:>12,}{share:>9.1%}  {'#' * round(40 * share)}".rstrip())
    _print_line(console, facts.pixels)
    if facts.labels is not None:
        _print_line(console, facts.labels)


def _print_variants(facts: CorpusFacts, console: Console) -> None:
    found = facts.variants
    if found is None:
        return
    _print_line(console, "")
    _print_line(console, f"train: {found.made:,} variants, {found.left_out:,} left out ({found.how})")
    for one in found.directions[:_DIRECTIONS]:
        pair = f"{one.source} -> {one.target}"
        line = f"  {pair:<44}{one.made:>12,}" + (f"  left out: {one.reasons}" if one.left_out else "")
        _print_line(console, line)
    if (more := len(found.directions) - _DIRECTIONS) > 0:
        _print_line(console, f"  and {more:,} directions more; all with --html")


def _print_mixture(mixture: MixtureFacts, console: Console) -> None:
    _print_line(console, "")
    for sentence in mixture.lines:
        for line in textwrap.wrap(sentence, console.width, subsequent_indent="  "):
            _print_line(console, line)
    for number, (title, directions) in enumerate(mixture.directions.items()):
        _print_line(console, title if number else f"{title:<46}{'examples':>12}{'share':>11}{'passes':>9}")
        for one in directions:
            pair = f"{one.source} -> {one.target}"
            _print_line(console, f"  {pair:<44}{one.examples:>12,}{percent(one.share):>11}{one.passes:>9.3g}")
