"""Held-out stories through beam search and every measure; NLL beside the unigram model's."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from models.network import Network
from shards.arrays import Ints
from shards.batch.collate import Collator
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.directions import Direction, parse_directions
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from shards.text.tokenizer import Tokenizer
from trainer.checkpoint.directory import read_state
from trainer.distributed import from_first_rank, raise_together
from trainer.evaluation.averages import languages_found, summarise, training_pairs
from trainer.evaluation.baselines.compute import Baselines, Example, as_rows, compute
from trainer.evaluation.baselines.report import baselines_report
from trainer.evaluation.decoding import Predictions, decoding_batches
from trainer.evaluation.heldout import (
    choose_examples,
    concatenate,
    in_batches,
    mean_nll,
    share_of_rank,
    take_groups,
)
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.report import facts_of
from trainer.evaluation.results import write_results
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.models import models_of
from trainer.evaluation.scoring.score import Scores, score
from trainer.evaluation.scoring.similarity import SIMILARITY, facts_of_similarity
from trainer.evaluation.unigram import UnigramBaseline
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.terminal.progress import counting, stage, track


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """Everything an evaluation reads. All ranks build one and call `run` together.

    begin_batch: called before every batch, for the watchdog.  kept_in: where the results go, `<run>/evaluation/<label>`
    (trainer/evaluation/kept.py); None: they are the run's own.
    """

    recipe: Recipe
    corpus: Corpus
    reader: Reader
    tokenizer: Tokenizer
    collate: Collator
    ranks: Ranks
    device: torch.device
    begin_batch: Callable[[], None]
    kept_in: Path | None = None

    @property
    def where(self) -> Path:
        """Return what names the results: the run, or `kept_in`."""
        return self.kept_in or self.recipe.run

    def run(self, network: Network, split: str, checkpoint: Path) -> dict[str, Any] | None:
        """Predictions, their scores and NLL of the recipe's directions on `split`; the report on rank 0.

        An example that cannot be read has no prediction and is counted in the report.

        `checkpoint` is where the network's weights are kept.

        Writes <split>-predictions.parquet, the baselines' tables beside it and <split>.json into evaluation/ of the
        run, or into `kept_in`. An evaluation of something else that lies there is moved away, not overwritten.
        """
        kinds, groups, facts = self.directions(), self.choose(split), self.facts(checkpoint)
        folder = evaluation_folder(self.where)
        found = self.decode(network, groups, folder / f"{split}-parts", facts)
        nll = self._nll(network, split, kinds)
        if not self.ranks.is_first:
            return None
        written = {row["number"]: row for of_batch in found.read().values() for row in of_batch}
        examples, pairs = self._read(groups, written)
        scores = self._score(pairs)
        predictions, measures = as_rows(examples, pairs, scores), list(scores.columns)
        baselines = self._baselines(examples)
        trained_on = training_pairs(self.corpus)
        report = {
            "split": split,
            "step": read_state(checkpoint).step,
            **facts,
            "examples": len(predictions),
            "unreadable": len(groups.number) - len(predictions),
            **self._without_images(predictions, written),
            **summarise(predictions, measures, trained_on),
            **baselines_report(predictions, baselines, trained_on),
            "rouge": scores.rouge,
            "languages_found": languages_found(predictions),
            "nll": nll,
        }
        if SIMILARITY in measures:
            report[SIMILARITY] = facts_of_similarity([(row.target, row.scores) for row in predictions])
        write_results(self.where, report, predictions, measures, baselines, facts)
        try:
            found.remove()
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error}") from error
        return report

    def directions(self) -> dict[str, list[Direction]]:
        """The recipe's directions by kind, MMS and MXLS."""
        of = self.recipe.evaluation.directions
        directions = parse_directions(of, self.corpus.languages, self.recipe.mixture.languages)
        return {
            "mms": [(source, target) for source, target in directions if source == target],
            "mxls": [(source, target) for source, target in directions if source != target],
        }

    def choose(self, split: str) -> Groups:
        """The examples of `split` that the recipe asks for, numbered. `InputError` where there is none."""
        settings = self.recipe.evaluation
        chosen = [
            choose_examples(self.corpus, split, of_kind, total=settings.examples_per_kind)
            for of_kind in self.directions().values()
        ]
        groups = concatenate(chosen)
        if not len(groups.number):
            raise InputError(f"evaluation.directions={settings.directions}: the {split} split has no such example")
        return groups

    def facts(self, checkpoint: Path) -> dict[str, Any]:
        """All that the examples and their predictions depend on beside the split, as the report has it."""
        return facts_of(self.recipe, checkpoint, self.corpus.content_hash)

    def decode(self, network: Network, groups: Groups, parts: Path, facts: object) -> Predictions:
        """Predict `groups` into the files of `parts`; what lies there under the same facts is kept.

        All ranks call this together, and all raise where one fails.
        """
        network.eval()
        found = Predictions(parts, groups, [facts])
        problem: InputError | None = None
        try:
            if self.ranks.is_first:
                found.begin()
        except InputError as error:
            problem = error
        raise_together(problem)
        done = cast(list[int], from_first_rank(sorted(found.read()) if self.ranks.is_first else None))
        try:
            self._decode(network, groups, found, set(done))
        except InputError as error:
            problem = error
        self.begin_batch()  # the clock of a rank that was quick begins anew: it waits for the others
        with stage("waiting for the other ranks", quiet=not self.ranks.is_first):
            raise_together(problem)
        if self.ranks.is_first:
            missing = set(range(len(self._batches(groups)))) - found.read().keys()
            if missing:
                problem = InputError(
                    f"{len(missing)} batches are no longer in {parts}: is another evaluation of this run going on? The "
                    "same command decodes them anew"
                )
        raise_together(problem)
        return found

    def _batches(self, groups: Groups) -> list[Ints]:
        rule = self.recipe.corpus.image_rule(training=False)
        return decoding_batches(groups, self.corpus, self.recipe.evaluation.batch_size, rule)

    def _decode(self, network: Network, groups: Groups, found: Predictions, done: set[int]) -> None:
        """Decode this rank's share of the batches that are not done yet."""
        settings = self.recipe.evaluation
        decoding = settings.decoding(self.recipe.lengths.summary)
        batches = self._batches(groups)
        left = [number for number in range(len(batches)) if number not in done]
        mine = left[self.ranks.rank :: self.ranks.world_size]
        total = sum(len(batches[number]) for number in mine)
        # Of one rank's share, which is as large as the others'.
        with stage("decoding", total, quiet=not self.ranks.is_first) as progress:
            for number in mine:
                self.begin_batch()
                chosen = take_groups(groups, batches[number])
                batch = self.collate(chosen)
                # What is drawn follows from the example, not from its place among those that are chosen.
                pairs = chosen.source[:, 0] * len(self.corpus.articles) + chosen.target[:, 0]
                written = network.generate(batch, decoding, pairs.tolist()).tolist()
                images = batch.image_mask_BI.sum(dim=1).tolist()  # that the network saw
                rows = [
                    {"number": example, "prediction": self.tokenizer.decode(ids), "images": seen}
                    for example, ids, seen, weight in zip(
                        chosen.number.tolist(), written, images, batch.weight_B.tolist(), strict=True
                    )
                    if weight
                ]
                found.add(self.ranks.rank, number, rows)
                progress.advance(len(batch))

    def _read(self, groups: Groups, written: Mapping[int, Mapping[str, Any]]) -> tuple[list[Example], list[Pair]]:
        """Read the texts of the examples that were decoded, in the examples' order. written: by number."""
        keys, languages, language = self.corpus.story_keys(), self.corpus.languages, self.corpus.articles["language"]
        examples: list[Example] = []
        pairs: list[Pair] = []
        document = functools.cache(lambda row: self.reader.article(row).text)  # one string for all its targets
        for place, number in enumerate(track(groups.number.tolist(), "reading references")):
            if number not in written:
                continue
            source, target = int(groups.source[place, 0]), int(groups.target[place, 0])
            try:
                article, text = self.reader.article(target), document(source)
            except UnreadableError:  # it was there when it was decoded
                continue
            pair = Pair(
                source=languages[int(language[source])],
                target=article.language,
                document=text,
                reference=article.summary,
                prediction=written[number]["prediction"],
            )
            pairs.append(pair)
            examples.append(
                Example(number=number, story=keys[int(groups.story[place, 0])], source=source, target=target)
            )
        self.begin_batch()
        return examples, pairs

    def _score(self, pairs: Sequence[Pair]) -> Scores:
        settings = self.recipe.evaluation
        models = models_of(settings, self.device)
        return score(pairs, profile=settings.rouge, models=models, after_each=self.begin_batch)

    def _baselines(self, examples: Sequence[Example]) -> Baselines:
        """Write and score the baselines' summaries of the same examples."""
        return compute(
            self.corpus,
            self.reader,
            examples,
            self._score,
            profile=self.recipe.evaluation.rouge,
            after_each=self.begin_batch,
        )

    def _without_images(
        self, predictions: Sequence[Prediction], written: Mapping[int, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Count the examples of each kind that the network saw no image of; nothing where it sees none at all."""
        if not self.recipe.network.vision.enabled:
            return {}
        without = [row for row in predictions if written[row.number].get("images") == 0]
        mms = sum(row.source == row.target for row in without)
        return {"without_images": {"mms": mms, "mxls": len(without) - mms}}

    def _nll(
        self, network: Network, split: str, kinds: Mapping[str, Sequence[Direction]]
    ) -> dict[str, dict[str, float]]:
        """The model's and the unigram's NLL a token of each kind, on the same examples."""
        length = self.recipe.lengths.summary
        self.begin_batch()
        quiet = not self.ranks.is_first
        with stage("unigram model of the training summaries", quiet=quiet):
            unigram = UnigramBaseline(self.corpus, self.reader, self.tokenizer, length, self.ranks, self.device)
        settings = self.recipe.validation
        result: dict[str, dict[str, float]] = {}
        for kind, directions in kinds.items():
            groups = choose_examples(self.corpus, split, directions, total=settings.examples_per_kind)
            share = share_of_rank(groups, self.ranks)
            batches = in_batches(share, self.collate, settings.batch_size)
            languages, size = len(self.corpus.languages), settings.batch_size
            with stage(f"held-out NLL, {kind}", -(-len(share.number) // size), quiet=quiet) as progress:
                counted = counting(batches, progress.advance)
                model = mean_nll(network, counted, self.device, self.begin_batch, languages=languages).nll
            if len(groups.number):
                floor = unigram.nll(groups)
                result[kind] = {
                    "model": model,
                    "unigram": floor,
                    "better_by": 1 - model / floor,
                    "examples": len(groups.number),
                }
        return result
