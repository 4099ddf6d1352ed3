"""Write a page on which people rate what systems wrote, without knowing which wrote what: `d2tv annotate RUN ...`."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from launcher.annotation.key import CRITERIA, SCALE, Item, Key, check_replaceable, key_path, write_key
from launcher.annotation.sample import MOST_SYSTEMS, draw, in_directions, shuffled
from launcher.examples import read
from launcher.pages.annotation import Question, annotation_page
from launcher.pages.evaluation import Example, Place
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.errors import InputError
from shards.files.write import check_output, write_output
from shards.format.index import Corpus
from shards.printable import one_line
from trainer.evaluation.compare.split_scorer import SplitScorer, recipe_of
from trainer.evaluation.compare.systems import parse_systems, read_texts
from trainer.evaluation.foreign import is_foreign
from trainer.evaluation.predictions import Key as ExampleKey
from trainer.evaluation.predictions import Prediction
from trainer.recipe import load_recipe
from trainer.terminal.progress import stage
from trainer.terminal.text import Console

#: Images of an article that are shown where no recipe says how many a system saw.
_IMAGES = 5
#: Examples are of no group here, which those of an evaluation's page are.
_GROUP = ""
#: Directions that are counted by name.
_NAMED = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Settings of a page. directions: as for `d2tv evaluate`; None: all. document: whose article is read.

    corpus: where the documents are; None: where the recipe of the first run says.
    """

    split: str
    directions: str | None
    examples: int
    document: Literal["source", "target"]
    reference: bool
    corpus: str | None
    seed: int
    out: Path


def write_annotation(words: Sequence[str], wanted: Wanted) -> None:
    """Write the page and its key, and print where they are and what is on the page.

    words: RUN, NAME=RUN, FILE.jsonl or a baseline, as for `d2tv compare`. Raises `InputError`.
    """
    if wanted.examples < 1:
        raise InputError(f"--examples {wanted.examples}: at least 1")
    systems = parse_systems(words)
    if len(systems) > MOST_SYSTEMS:
        raise InputError(f"{len(systems)} systems: a page has letters for {MOST_SYSTEMS}")
    for name in (system.name for system in systems):
        if not name.isprintable():
            raise InputError(f"{name!a}: a name that a key cannot hold: call it NAME=RUN")
    out, key_file = wanted.out, key_path(wanted.out)
    for path in (out, key_file):
        check_output(path, "name another --out", reads=[run for system in systems for run in system.runs])
    console = Console(stderr=True)
    models = [system for system in systems if system.baseline is None]
    if not models:
        raise InputError("name a run or a file of predictions beside the baselines: they write of its examples")
    runs = [run for system in models for run in system.runs if not is_foreign(run)]
    notes: list[str] = []
    with SplitScorer(wanted.corpus, runs, wanted.split) as held_out:
        with stage("reading predictions", out=console):
            of_models: dict[str, dict[ExampleKey, str]] = {}
            for system in models:
                of_models[system.name], lines = read_texts(system, held_out)
                notes += [f"{system.name}: {line}" for line in lines]
            common = set.intersection(*(set(of) for of in of_models.values()))
            if not common:
                names = ", ".join(of_models)
                raise InputError(f"{names} have no example of {wanted.split} in common: evaluate the same directions")
            possible = in_directions(sorted(common), wanted.directions)
            chosen = draw(possible, wanted.examples, wanted.seed)
        with stage("reading documents", out=console):
            examples = _examples(chosen, held_out, runs, wanted)
        texts = {
            system.name: of_models[system.name]
            if system.baseline is None
            else held_out.texts_of_baseline(system.baseline, chosen)
            for system in systems
        }
    summaries = [shuffled({name: of[key] for name, of in texts.items()}, wanted.seed, key) for key in chosen]
    questions = [
        Question(
            number=str(number),
            source=example.row.source,
            target=example.row.target,
            document_language=example.row.source if wanted.document == "source" else example.row.target,
            document=example.document,
            problem=example.problem,
            reference=example.row.reference if wanted.reference else None,
            images=example.images,
            summaries={letter: text for letter, (text, _) in of.items()},
        )
        for number, (example, of) in enumerate(zip(examples, summaries, strict=True), 1)
    ]
    key = Key(
        page=_hash(questions),
        split=wanted.split,
        systems=list(texts),
        items={
            question.number: Item(
                story=example[0],
                source=example[1],
                target=example[2],
                summaries={letter: names for letter, (_, names) in of.items()},
            )
            for question, example, of in zip(questions, chosen, summaries, strict=True)
        },
    )
    check_replaceable(key_file, key)
    write_key(key_file, key)
    write_output(out, annotation_page(key.page, questions, CRITERIA, SCALE))
    left_out = max(map(len, of_models.values())) - len(common)
    for line in notes + _describe(key, texts, examples, chosen, len(possible), left_out, wanted):
        print(line)
    print(f"page: {one_line(str(out))}")
    print(f"key: {one_line(str(key_file))} (says which system wrote what: not for annotators)")


def _examples(
    chosen: Sequence[ExampleKey], held_out: SplitScorer, runs: Sequence[Path], wanted: Wanted
) -> list[Example]:
    """Read the documents, references and images of examples, without a prediction.

    `InputError` where the corpus is another one than the systems', or not to be found.
    """
    corpus, reader = held_out.corpus, held_out.reader
    _check_articles(corpus, chosen)
    recipe = next((path for run in runs if (path := recipe_of(run)) is not None), None)
    images = _IMAGES if recipe is None else load_recipe(str(recipe)).network.vision.max_images
    rows: list[tuple[str, Place, Prediction]] = [
        (_GROUP, "drawn", row) for row in _rows(chosen, corpus, reader, references=wanted.reference)
    ]
    return read(rows, corpus, reader, images, document_of=wanted.document)


def _rows(chosen: Sequence[ExampleKey], corpus: Corpus, reader: Reader, *, references: bool) -> Iterator[Prediction]:
    """Yield the examples, with references where they are wanted. Raises `InputError` for one that is unreadable."""
    articles = corpus.article_rows({story for story, _, _ in chosen})
    for number, (story, source, target) in enumerate(chosen):
        try:
            reference = reader.article(articles[story, target]).summary if references else ""
        except UnreadableError as error:
            raise InputError(f"{error}: `d2tv verify {corpus.location}` lists all that is damaged") from error
        yield Prediction(
            number=number,
            story=story,
            source=source,
            target=target,
            prediction="",
            reference=reference,
            language=None,
            scores={},
        )


def _check_articles(corpus: Corpus, chosen: Sequence[ExampleKey]) -> None:
    """`InputError` where the predictions are of other texts than the corpus'."""
    articles = corpus.article_rows({story for story, _, _ in chosen})
    for story, *languages in chosen:
        for language in languages:
            if (story, language) not in articles:
                raise InputError(
                    f"{corpus.location} has no article of {story} in {language}: name the corpus that the systems were "
                    "evaluated on with --corpus DIR"
                )


def _hash(questions: Sequence[Question]) -> str:
    """Name a page by what it shows: ratings of one page are none of another."""
    shown = [replace(question, images=None) for question in questions]
    facts = [{name: getattr(question, name) for name in Question.__slots__} for question in shown]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _describe(
    key: Key,
    texts: Mapping[str, Mapping[ExampleKey, str]],
    examples: Sequence[Example],
    chosen: Sequence[ExampleKey],
    possible: int,
    left_out: int,
    wanted: Wanted,
) -> list[str]:
    """Say what is on the page, and what is not."""
    written = len(chosen) * len(texts)
    counts = Counter(f"{source} → {target}" for _, source, target in chosen)
    named = ", ".join(f"{name} {count}" for name, count in counts.items())
    lines = [
        f"{len(chosen)} examples of {wanted.split} × {len(texts)} systems, {len({key[0] for key in chosen})} stories"
        f"; {named if len(counts) <= _NAMED else f'{len(counts)} directions'}"
    ]
    if len(chosen) < wanted.examples:
        lines.append(f"there are no more than {possible} of the {wanted.examples} examples")
    if left_out:
        lines.append(f"{left_out:,} examples are not in all of the systems and left out")
    if same := written - len(key.summaries):
        lines.append(f"{same} of {written} summaries are another system's word for word: shown once, rated for both")
    if empty := sum(not of[key].strip() for of in texts.values() for key in chosen):
        lines.append(f"{empty} of {written} summaries are empty, and shown so")
    for problem in [example.problem for example in examples if example.problem]:
        lines.append(f"an example lacks its document or images: {problem}")
    return [one_line(line) for line in lines]
