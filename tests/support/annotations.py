"""Systems that were evaluated on the tiny corpus, for people to rate, and the files that they save."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher.annotation.key import CRITERIA, Key
from shards.format.index import Corpus
from tests.support.runs import write_recipe
from trainer.evaluation.predictions import Prediction, write_predictions

#: (what the system is called, story, number of the example) -> its summary.
Writer = Callable[[str, str, int], str]

NAMES = ("mms", "vanilla", "dual")


def write(name: str, story: str, number: int) -> str:
    """Texts that do not say who wrote them; of some examples two systems wrote the same, and one wrote nothing."""
    if number % 5 == 0 and name != "dual":
        return f"shared {number}"
    if number % 7 == 0 and name == "dual":
        return " "
    return f"text {number * 31 + 7 * len(name)} of {'سورج چاند' if number % 2 else 'sun & <moon>'}"


def write_system(run: Path, corpus: Corpus, writer: Writer, *, recipe: bool = True, skip: int = 0) -> Path:
    """An evaluated run with a prediction for every example of the test split but the first `skip`."""
    keys, languages = corpus.story_keys(), corpus.languages
    articles = corpus.articles
    rows = []
    for number, (source, target) in enumerate(corpus.edges["test"].tolist()):
        story = keys[int(articles["story"][source])]
        rows.append(
            Prediction(
                number=number,
                story=story,
                source=languages[int(articles["language"][source])],
                target=languages[int(articles["language"][target])],
                prediction=writer(run.name, story, number),
                reference="the corpus has it",
                language=None,
                scores={"rouge1": 1.0},
            )
        )
    (run / "evaluation").mkdir(parents=True)
    write_predictions(run, "test", rows[skip:], ["rouge1"], {"corpus": corpus.content_hash})
    if recipe:
        write_recipe(run, f"corpus.path={corpus.directory}")
    return run


def ratings(key: Key, annotator: str, value: Callable[[str, str, str, str], int | None]) -> dict[str, Any]:
    """Return what a page saves. value: (item, letter, criterion, first system that wrote it) -> a rating or None."""
    made: dict[str, dict[str, dict[str, int]]] = {}
    for number, item in key.items.items():
        for letter, systems in item.summaries.items():
            for criterion in CRITERIA:
                if (given := value(number, letter, criterion, systems[0])) is not None:
                    made.setdefault(number, {}).setdefault(letter, {})[criterion] = given
    return {"format": "d2tv ratings", "page": key.page, "annotator": annotator, "ratings": made}


def write_ratings(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
