"""Read any system's predictions from JSONL, and match them with held-out examples. Imports no torch.

A line is {"story" | "url", "source", "target", "prediction"}: the story's key (as `d2tv evaluate` writes it, or
percent-decoded) or the URL of one of its articles; languages by name or code; other keys are passed over.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.directions import Direction
from shards.errors import InputError
from shards.files.read import open_regular
from shards.format.index import Corpus
from shards.format.writer import encode_key
from shards.languages import language_name
from shards.text.lines import check_encodable, has_text, parse_object, read_lines
from trainer.evaluation.baselines.compute import Example, pair_of
from trainer.evaluation.scoring.measures import Pair

SUFFIX = ".jsonl"
#: Reasons why lines are not scored, in the order of the report.
_REASONS = {
    "unknown": "of no story of the split",
    "other_split": "of a story of another split",
    "no_example": "of a direction that the story does not have",
    "not_asked_for": "of a direction that is not asked for",
    "repeated": "said again",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A prediction of a file. number: of its line, from 1.  source, target: languages by name."""

    number: int
    story: str | None
    url: str | None
    source: str
    target: str
    prediction: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreign:
    """Predictions of held-out examples, sorted by example.

    counts: `lines` in the file; those left out by reason (`_REASONS`); `empty` ones that are scored; `missing` examples
    of the file's directions.
    """

    examples: tuple[Example, ...]
    predictions: tuple[str, ...]
    counts: Mapping[str, int]

    def pairs(self, corpus: Corpus, reader: Reader) -> list[Pair]:
        """Return the texts of the examples, with the predictions. Raises `InputError` where they cannot be read."""
        return [
            pair_of(corpus, reader, example, text)
            for example, text in zip(self.examples, self.predictions, strict=True)
        ]

    def describe(self) -> list[str]:
        """Return lines on what was left out and what is missing."""
        return describe_counts(self.counts)


def describe_counts(counts: object) -> list[str]:
    """Return lines on `Foreign.counts`, also those of a damaged report."""
    if not isinstance(counts, dict):
        return []
    numbers = {key: count for key, count in counts.items() if isinstance(count, int)}
    lines = [f"{count:,} lines {words}" for key, words in _REASONS.items() if (count := numbers.get(key))]
    if empty := numbers.get("empty"):
        lines.append(f"{empty:,} predictions empty (scored as such)")
    if missing := numbers.get("missing"):
        lines.append(f"{missing:,} examples of its directions without a line")
    return lines


def is_foreign(path: Path) -> bool:
    """Return True if the name is that of a file of predictions."""
    return path.suffix.lower() == SUFFIX


def read_foreign(path: Path) -> tuple[list[Line], str]:
    """Return the lines of a file, and its SHA-256. Blank lines are passed over.

    Raises `InputError`, which names the file and the line, for what is no prediction.
    """
    digest, found = hashlib.sha256(), list[Line]()
    try:
        with open_regular(path, pipes=True) as file:
            for number, _, data in read_lines(file):
                digest.update(data)
                if data.strip(b"\xef\xbb\xbf \t\r\n"):
                    try:
                        found.append(_line(number, parse_object(data)))
                    except InputError as error:
                        raise InputError(f"{path}, line {number}: {error}") from error
                    except ValueError as error:
                        raise InputError(f"{path}, line {number} {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not found:
        raise InputError(f'{path} holds no line: write {{"story", "source", "target", "prediction"}} a line')
    return found, digest.hexdigest()


def match(
    lines: Sequence[Line],
    corpus: Corpus,
    reader: Reader,
    split: str,
    path: Path,
    directions: Sequence[Direction] | None = None,
) -> Foreign:
    """Return the lines that are examples of `split`. directions: to score; None: any.

    Raises `InputError` for two lines of one example that differ, a URL of several stories, and where no line matches.
    """
    place = _Places(corpus, reader, split, lines)
    counts: Counter[str] = Counter({"lines": len(lines)})
    kept: dict[int, Line] = {}
    for line in lines:
        edge = place.of(line, path)
        if isinstance(edge, str):
            counts[edge] += 1
        elif directions is not None and place.direction(line) not in directions:
            counts["not_asked_for"] += 1
        elif (before := kept.get(edge)) is None:
            kept[edge] = line
        elif before.prediction == line.prediction:
            counts["repeated"] += 1
        else:
            raise InputError(
                f"{path}, line {line.number}: line {before.number} has another prediction of the same example: leave "
                "one of them out"
            )
    if not kept:
        why = ", ".join(f"{counts[key]:,} {words}" for key, words in _REASONS.items() if counts[key])
        raise InputError(
            f"{path}: none of its {len(lines):,} lines is an example of {split} of {corpus.location} ({why}): name the "
            "corpus and --split that it was written for"
        )
    counts["empty"] = sum(not has_text(line.prediction) for line in kept.values())
    sizes, size = np.diff(corpus.directions[split]), len(corpus.languages)
    of = {found for line in kept.values() if (found := place.direction(line)) is not None}
    counts["missing"] = int(sum(sizes[target * size + source] for source, target in of)) - len(kept)
    chosen = sorted(kept)
    pairs = corpus.edges[split][chosen].tolist()
    keys, story = corpus.story_keys(), np.asarray(corpus.articles["story"])
    return Foreign(
        examples=tuple(
            Example(number=number, story=keys[int(story[target])], source=source, target=target)
            for number, (source, target) in enumerate(pairs)
        ),
        predictions=tuple(kept[edge].prediction for edge in chosen),
        counts=dict(counts),
    )


class _Places:
    """The places of a split's examples among its edges."""

    def __init__(self, corpus: Corpus, reader: Reader, split: str, lines: Sequence[Line]) -> None:
        self._languages = {name: number for number, name in enumerate(corpus.languages)}
        self._edges = corpus.edges[split]
        self._starts = corpus.directions[split]
        self._story = np.asarray(corpus.articles["story"])
        rows = np.unique(self._edges)
        self._number = {key: number for number, key in enumerate(corpus.story_keys())}
        self._of_split = set(self._story[rows].tolist())
        self._by_direction: dict[Direction, dict[int, int]] = {}
        self._urls: dict[str, dict[str, set[int]]] = {}
        if any(line.story is None for line in lines):
            wanted = {line.url for line in lines}
            for row in rows.tolist():
                try:
                    article = reader.article(row)
                except UnreadableError as error:
                    raise InputError(f"{error}: `d2tv verify {corpus.location}` lists all that is damaged") from error
                if article.url in wanted:
                    stories = self._urls.setdefault(article.url, {}).setdefault(article.language, set())
                    stories.add(int(self._story[row]))

    def direction(self, line: Line) -> Direction | None:
        if line.source not in self._languages or line.target not in self._languages:
            return None
        return self._languages[line.source], self._languages[line.target]

    def of(self, line: Line, path: Path) -> int | str:
        """Return the number of a line's edge, or the reason why it has none."""
        story = self._named(line) if line.story is not None else self._linked(line, path)
        if story is None:
            return "unknown"
        if story not in self._of_split:
            return "other_split"
        direction = self.direction(line)
        if direction is None:
            return "no_example"
        if direction not in self._by_direction:
            number = direction[1] * len(self._languages) + direction[0]
            begin, end = int(self._starts[number]), int(self._starts[number + 1])
            stories = self._story[self._edges[begin:end, 1]].tolist()
            self._by_direction[direction] = dict(zip(stories, range(begin, end), strict=True))
        return self._by_direction[direction].get(story, "no_example")

    def _named(self, line: Line) -> int | None:
        assert line.story is not None
        return self._number.get(line.story, self._number.get(encode_key(line.story)))

    def _linked(self, line: Line, path: Path) -> int | None:
        """Return the story with the URL, of the source article, else of the target, else of any."""
        assert line.url is not None
        of_url = self._urls.get(line.url, {})
        found = of_url.get(line.source) or of_url.get(line.target) or set().union(*of_url.values())
        if len(found) > 1:
            raise InputError(f'{path}, line {line.number}: {line.url} is of {len(found)} stories: give its "story"')
        return next(iter(found), None)


def _line(number: int, fields: dict[str, Any]) -> Line:
    for key in ("source", "target", "prediction"):
        if not isinstance(fields.get(key), str):
            raise ValueError(f'has no "{key}" that is a text')
    given = {key: fields[key] for key in ("story", "url") if fields.get(key) is not None}
    if not given or not all(isinstance(value, str) for value in given.values()):
        raise ValueError('has no "story" or "url" that is a text')
    check_encodable(fields["prediction"])
    return Line(
        number=number,
        story=given.get("story"),
        url=given.get("url"),
        source=language_name(fields["source"]),
        target=language_name(fields["target"]),
        prediction=fields["prediction"],
    )
