"""Decode held-out stories, score them, compare NLL with a unigram model's, and measure alignment."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from models.network import Network
from models.sharing import Text
from shards.batch.collate import Lengths
from shards.batch.spans import UnreadableError
from shards.directions import direction_kind
from shards.errors import InputError
from shards.stream.sampler import Groups
from trainer.checkpoint.directory import read_state
from trainer.evaluation.alignment import Texts, alignment_report, choose_parallels, encode_documents
from trainer.evaluation.baselines.compute import Example
from trainer.evaluation.decoding import Predictions
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import HeldOut
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.report import score_and_write
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.models import models_of
from trainer.evaluation.scoring.score import Scores, score
from trainer.evaluation.tasks.decode import decode
from trainer.evaluation.unigram import UnigramBaseline
from trainer.terminal.progress import stage, track
from trainer.trained import Product


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """Hold what a network has written of `groups`.

    nll, alignment: the report's parts of these names; None: it has no such part.
    """

    groups: Groups
    predictions: Predictions
    nll: Mapping[str, Mapping[str, float]]
    alignment: Mapping[str, Any] | None


class Summarization:
    """Write summaries of documents with their images.

    reads: what is written from, as of `Network.writing`.  extracts: whether the baselines, which are extracted from
    documents, and the alignment of documents belong beside it.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    reads: ClassVar[Text] = "source"
    extracts: ClassVar[bool] = True

    def predict(self, evaluator: Evaluator, product: Product, split: str, checkpoint: Path) -> Written:
        """Decode the recipe's directions on `split`. What was decoded before a kill is kept."""
        network, groups = product.network, evaluator.choose(split)
        parts = evaluation_folder(evaluator.where) / f"{split}-parts"
        return Written(
            groups=groups,
            predictions=decode(evaluator, network, groups, parts, evaluator.facts(checkpoint), reads=self.reads),
            nll=self._nll(evaluator, network, split),
            alignment=_alignment(evaluator, network, split) if self.extracts else None,
        )

    def score(self, evaluator: Evaluator, found: Written, split: str, checkpoint: Path) -> dict[str, Any]:
        """Write <split>-predictions.parquet, the baselines' tables beside it and <split>.json; return the report."""
        groups, facts = found.groups, evaluator.facts(checkpoint)
        written = {row["number"]: row for of_batch in found.predictions.read().values() for row in of_batch}
        examples, pairs = read_pairs(evaluator, groups, written, self.reads)
        head = {
            "split": split,
            "step": read_state(checkpoint).step,
            **facts,
            "examples": len(examples),
            "unreadable": len(groups.number) - len(examples),
            **_without_images(evaluator, examples, pairs, written),
        }
        report = score_and_write(
            evaluator.where,
            head,
            facts,
            examples,
            pairs,
            corpus=evaluator.corpus,
            reader=evaluator.reader,
            scorer=functools.partial(self.scores, evaluator),
            nll=found.nll,
            alignment=found.alignment,
            further=self.further(pairs),
            extracts=self.extracts,
            after_each=evaluator.begin_batch,
        )
        try:
            found.predictions.remove()
        except OSError as error:
            raise InputError(f"{evaluation_folder(evaluator.where)} cannot be written: {error}") from error
        return report

    def scores(self, evaluator: Evaluator, pairs: Sequence[Pair]) -> Scores:
        """Return every measure of every pair."""
        settings = evaluator.recipe.evaluation
        models = models_of(settings, evaluator.device)
        return score(pairs, profile=settings.rouge, models=models, after_each=evaluator.begin_batch)

    def further(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return further parts of the report, of all pairs together."""
        return {}

    def _nll(self, evaluator: Evaluator, network: Network, split: str) -> dict[str, dict[str, float]]:
        """Return the model's and the unigram model's NLL a token, in nats, by kind, on the same examples."""
        settings, ranks = evaluator.recipe.validation, evaluator.ranks
        evaluator.begin_batch()
        quiet, length = not ranks.is_first, evaluator.recipe.lengths.summary
        with stage("unigram model of the training summaries", quiet=quiet):
            unigram = UnigramBaseline(
                evaluator.corpus, evaluator.reader, evaluator.tokenizer, length, ranks, evaluator.device
            )
        held_out = HeldOut(
            evaluator.corpus,
            evaluator.collator(()),
            split=split,
            directions=evaluator.directions(),
            examples_per_kind=settings.examples_per_kind,
            batch_size=settings.batch_size,
            ranks=ranks,
        )
        with stage("held-out NLL", quiet=quiet):
            found = held_out.nll(network, evaluator.device, evaluator.begin_batch, self.reads)
        floors = {kind: unigram.nll(groups) for kind, groups in held_out.groups.items()}
        return {
            kind: {
                "model": of.nll,
                "unigram": floors[kind],
                "better_by": 1 - of.nll / floors[kind],
                "examples": len(held_out.groups[kind].number),
            }
            for kind, of in found.items()
        }


def read_pairs(
    evaluator: Evaluator, groups: Groups, written: Mapping[int, Mapping[str, Any]], reads: Text = "source"
) -> tuple[list[Example], list[Pair]]:
    """Read the texts of the examples that were decoded, in the examples' order. written: by number.

    reads: what was written from, each pair's document.
    """
    corpus, reader = evaluator.corpus, evaluator.reader
    keys, languages, language = corpus.story_keys(), corpus.languages, corpus.articles["language"]
    examples: list[Example] = []
    pairs: list[Pair] = []

    @functools.cache  # one string for all its targets
    def document(row: int) -> str:
        article = reader.article(row)
        return article.text if reads == "source" else article.summary

    for place, number in enumerate(track(groups.number.tolist(), "reading references")):
        if number not in written:
            continue
        source, target = int(groups.source[place, 0]), int(groups.target[place, 0])
        try:
            article, text = reader.article(target), document(source)
        except UnreadableError:  # it was readable when it was decoded
            continue
        pair = Pair(
            source=languages[int(language[source])],
            target=article.language,
            document=text,
            reference=article.summary,
            prediction=written[number]["prediction"],
        )
        pairs.append(pair)
        examples.append(Example(number=number, story=keys[int(groups.story[place, 0])], source=source, target=target))
    evaluator.begin_batch()
    return examples, pairs


def _without_images(
    evaluator: Evaluator, examples: Sequence[Example], pairs: Sequence[Pair], written: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Count the examples of each kind that the network saw no image of; empty where it sees none at all."""
    if not evaluator.recipe.network.vision.enabled:
        return {}
    kinds = [direction_kind(pair.source, pair.target) for pair in pairs]
    counts = dict.fromkeys(sorted(set(kinds)), 0)
    for example, kind in zip(examples, kinds, strict=True):
        counts[kind] += written[example.number].get("images") == 0
    return {"without_images": counts}


def _alignment(evaluator: Evaluator, network: Network, split: str) -> dict[str, Any]:
    """Measure how near the encoder puts documents and their parallels, on a fixed sample of the split.

    All ranks call this; the first one has the figures, others get an empty mapping.
    """
    corpus, lengths = evaluator.corpus, evaluator.recipe.lengths
    chosen = choose_parallels(corpus, split, evaluator.directions())
    documents = encode_documents(
        network,
        corpus,
        chosen,
        Texts(evaluator.reader, evaluator.tokenizer, Lengths(document=lengths.document, summary=lengths.summary)),
        batch_size=evaluator.recipe.evaluation.batch_size,
        ranks=evaluator.ranks,
        device=evaluator.device,
        begin_batch=evaluator.begin_batch,
    )
    return alignment_report(corpus, chosen, documents) if evaluator.ranks.is_first else {}
