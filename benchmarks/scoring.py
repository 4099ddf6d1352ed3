"""Score predictions in 45 languages: ROUGE by `rouge-score` with our tokenizers, and all measures of an evaluation.

    python -m benchmarks.scoring --json OUT [--quick] [--processes N]

Summaries of 8 to 40 words are made up in every language, of words joined from those of a sentence, and predictions from
them by leaving out, replacing and moving words; no text occurs twice. Times include processes and dictionaries. A
figure is the median of the rounds.
"""

import argparse
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.loader import machine
from benchmarks.output import run, show_figures
from shards.files.write import check_output
from tests.support.sentences import SENTENCES
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.score import score, score_rouge
from trainer.evaluation.scoring.tokenizers import Tokenizer
from trainer.terminal.progress import track

FIGURES = {
    "pairs_per_second": "ROUGE-1/2/L/Lsum, all cores",
    "pairs_per_second_one_process": "the same in one process",
    "cpu_share": "of all cores: processor time over wall time and processes; far below 1 beside other programs",
    "measures_per_second": "pairs/s of every measure that needs no model; a document of 300 words a pair",
}
_UNSPACED = ("burmese", "chinese_simplified", "chinese_traditional", "japanese", "thai")

Triple = tuple[str, str, str]


class Writer:
    """Texts of one language. Drawn from 2,000 words: those of a sentence, and two or three pieces of them joined."""

    def __init__(self, language: str, draw: random.Random) -> None:
        self._draw, self._between = draw, "" if language in _UNSPACED else " "
        given = _words(language)
        self.words = [*given, *("".join(draw.choices(given, k=draw.choice((2, 3)))) for _ in range(2_000))]

    def draw_words(self, number: int) -> list[str]:
        """Frequent words and rare ones, as texts have them."""
        size = len(self.words)
        return [self.words[int(size ** self._draw.random()) - 1] for _ in range(number)]

    def text(self, words: Sequence[str]) -> str:
        middle = len(words) // 2
        parts = [words] if len(words) < 32 else [words[:middle], words[middle:]]
        return "\n".join(self._between.join(part) for part in parts)

    def prediction_of(self, words: Sequence[str]) -> list[str]:
        kept = [word for word in words if self._draw.random() < 0.6]
        for word in self.draw_words(self._draw.randint(2, len(words) // 2)):
            kept.insert(self._draw.randint(0, len(kept)), word)
        return kept


def _words(language: str) -> list[str]:
    """The words of the language's sentence; where they are not spaced, as its segmenter has them."""
    sentence = SENTENCES[language]
    return Tokenizer(language).tokenize(sentence) if language in _UNSPACED else sentence.split()


def make_triples(number: int, seed: int = 0) -> list[Triple]:
    """(language, reference, prediction), the languages in turn."""
    draw = random.Random(seed)
    writers = {language: Writer(language, draw) for language in SENTENCES}
    made = []
    for place, language in zip(range(number), cycle(sorted(writers)), strict=False):
        writer = writers[language]
        reference = [*writer.draw_words(draw.randint(8, 40)), str(place)]
        made.append((language, writer.text(reference), writer.text(writer.prediction_of(reference))))
    return made


def make_pairs(triples: Sequence[Triple], seed: int = 1) -> list[Pair]:
    """With a document in the same language."""
    draw = random.Random(seed)
    writers = {language: Writer(language, draw) for language in SENTENCES}
    return [
        Pair(
            source=language,
            target=language,
            document="\n".join(writers[language].text(writers[language].draw_words(30)) for _ in range(10)),
            reference=reference,
            prediction=prediction,
        )
        for language, reference, prediction in triples
    ]


def timed(function: Callable[[], Sequence[Any]]) -> tuple[float, Sequence[Any]]:
    """Results a second, and the results."""
    began = time.perf_counter()
    results = function()
    return len(results) / (time.perf_counter() - began), results


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(*, pairs: int, sample: int, rounds: int, processes: int) -> dict[str, float | str]:
    """Return the figures. sample: pairs that one process scores, and that all measures are of."""
    triples = make_triples(pairs)
    few = [triples[number] for number in sorted(random.Random(0).sample(range(pairs), sample))]
    with_documents = make_pairs(few)
    score_rouge(triples[: len(SENTENCES)], processes=1)  # loads the dictionaries
    series: dict[str, list[float]] = {name: [] for name in FIGURES}
    for _ in track(range(rounds), "rounds of scoring"):
        before = processor_seconds()
        rate, _ = timed(lambda: score_rouge(triples, processes=processes))
        series["pairs_per_second"].append(rate)
        series["cpu_share"].append((processor_seconds() - before) * rate / len(triples) / processes)
        series["pairs_per_second_one_process"].append(timed(lambda: score_rouge(few, processes=1))[0])
        rate, _ = timed(lambda: score(with_documents, processes=processes).language)
        series["measures_per_second"].append(rate)
    return {
        **{name: statistics.median(values) for name, values in series.items()},
        "pairs": float(pairs),
        "processes": float(processes),
        "machine": machine(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="few pairs, for the tests")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    options = parser.parse_args(arguments)
    check_output(options.json)
    pairs, sample, rounds = (1_350, 135, 1) if options.quick else (100_000, 5_000, 3)
    figures = measure(pairs=pairs, sample=sample, rounds=rounds, processes=options.processes)
    show_figures(f"scoring, {pairs:,} pairs, {machine()}", figures, options.json, FIGURES)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
