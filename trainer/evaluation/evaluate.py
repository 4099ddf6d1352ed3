"""Decode held-out stories by beam search, score them, compare NLL with a unigram model's, and measure alignment."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from models.network import Network
from shards.arrays import Ints
from shards.batch.collate import Collator, Lengths
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.batch.transforms import Transform
from shards.directions import Direction, by_kind, direction_kind, parse_directions
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from shards.text.tokenizer import Tokenizer
from trainer.checkpoint.directory import read_state
from trainer.distributed import from_first_rank, raise_together
from trainer.evaluation.alignment import Texts, alignment_report, choose_parallels, encode_documents
from trainer.evaluation.baselines.compute import Example
from trainer.evaluation.decoding import Predictions, decoding_batches
from trainer.evaluation.heldout import HeldOut, choose_examples, concatenate, take_groups
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.report import facts_of, score_and_write
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.models import models_of
from trainer.evaluation.scoring.score import score
from trainer.evaluation.unigram import UnigramBaseline
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.terminal.progress import stage, track


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """Evaluate a network by a recipe. All ranks build one and call its methods together.

    collate_changed: returns a collator whose articles go through a transform (perturbations).
    begin_batch: called before every batch, for the watchdog.  kept_in: the directory of the results,
    `<run>/evaluation/<label>` (trainer/evaluation/kept.py); None: the run's own.  product: the name of the network,
    where the objective trains several.
    """

    recipe: Recipe
    corpus: Corpus
    reader: Reader
    tokenizer: Tokenizer
    collate: Collator
    collate_changed: Callable[[Transform], Collator]
    ranks: Ranks
    device: torch.device
    begin_batch: Callable[[], None]
    kept_in: Path | None = None
    product: str | None = None

    @property
    def where(self) -> Path:
        """Return the directory that names the results: the run, or `kept_in`."""
        return self.kept_in or self.recipe.run

    def run(self, network: Network, split: str, checkpoint: Path) -> dict[str, Any] | None:
        """Decode and score the recipe's directions on `split`; return the report on rank 0, None on the others.

        checkpoint: of the network's weights. An example that cannot be read has no prediction and is counted.

        Writes <split>-predictions.parquet, the baselines' tables beside it and <split>.json into evaluation/ of the
        run, or into `kept_in`. An evaluation of something else that lies there is moved away, not overwritten.
        """
        groups, facts = self.choose(split), self.facts(checkpoint)
        folder = evaluation_folder(self.where)
        found = self.decode(network, groups, folder / f"{split}-parts", facts)
        nll = self._nll(network, split)
        alignment = self._alignment(network, split)
        if not self.ranks.is_first:
            return None
        written = {row["number"]: row for of_batch in found.read().values() for row in of_batch}
        examples, pairs = self._read(groups, written)
        head = {
            "split": split,
            "step": read_state(checkpoint).step,
            **facts,
            "examples": len(examples),
            "unreadable": len(groups.number) - len(examples),
            **self._without_images(examples, pairs, written),
        }
        settings = self.recipe.evaluation
        report = score_and_write(
            self.where,
            head,
            facts,
            examples,
            pairs,
            corpus=self.corpus,
            reader=self.reader,
            scorer=functools.partial(
                score,
                profile=settings.rouge,
                models=models_of(settings, self.device),
                after_each=self.begin_batch,
            ),
            nll=nll,
            alignment=alignment,
            after_each=self.begin_batch,
        )
        try:
            found.remove()
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error}") from error
        return report

    def directions(self) -> list[Direction]:
        """Return the recipe's directions."""
        of = self.recipe.evaluation.directions
        return parse_directions(of, self.corpus.languages, self.recipe.mixture.languages)

    def choose(self, split: str) -> Groups:
        """Return the examples of `split` that the recipe asks for, numbered. `InputError` where there is none."""
        settings = self.recipe.evaluation
        chosen = [
            choose_examples(self.corpus, split, of_kind, total=settings.examples_per_kind)
            for of_kind in by_kind(self.directions()).values()
        ]
        if not any(len(part.number) for part in chosen):
            raise InputError(f"evaluation.directions={settings.directions}: the {split} split has no such example")
        return concatenate(chosen)

    def facts(self, checkpoint: Path) -> dict[str, Any]:
        """Return all that the predictions depend on beside the split, as the report has it."""
        return facts_of(self.recipe, checkpoint, self.corpus.content_hash, self.product)

    def decode(self, network: Network, groups: Groups, parts: Path, facts: object) -> Predictions:
        """Predict `groups` into the files of `parts`; predictions there of the same facts are kept.

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
        self.begin_batch()  # restarts the watchdog's clock: a quick rank waits for the others
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
        # Progress is that of one rank's share, which is as large as the others'.
        with stage("decoding", total, quiet=not self.ranks.is_first) as progress:
            for number in mine:
                self.begin_batch()
                chosen = take_groups(groups, batches[number])
                batch = self.collate(chosen)
                # Random numbers follow from the example, not from its place in the batch.
                pairs = chosen.source[:, 0] * len(self.corpus.articles) + chosen.target[:, 0]
                written = network.generate(batch, decoding, pairs.tolist()).tolist()
                images = batch.image_mask_BI.sum(dim=1).tolist()
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
            examples.append(
                Example(number=number, story=keys[int(groups.story[place, 0])], source=source, target=target)
            )
        self.begin_batch()
        return examples, pairs

    def _without_images(
        self, examples: Sequence[Example], pairs: Sequence[Pair], written: Mapping[int, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Count the examples of each kind that the network saw no image of; empty where it sees none at all."""
        if not self.recipe.network.vision.enabled:
            return {}
        kinds = [direction_kind(pair.source, pair.target) for pair in pairs]
        counts = dict.fromkeys(sorted(set(kinds)), 0)
        for example, kind in zip(examples, kinds, strict=True):
            counts[kind] += written[example.number].get("images") == 0
        return {"without_images": counts}

    def _nll(self, network: Network, split: str) -> dict[str, dict[str, float]]:
        """Return the model's and the unigram model's NLL a token, in nats, by kind, on the same examples."""
        settings = self.recipe.validation
        self.begin_batch()
        quiet, length = not self.ranks.is_first, self.recipe.lengths.summary
        with stage("unigram model of the training summaries", quiet=quiet):
            unigram = UnigramBaseline(self.corpus, self.reader, self.tokenizer, length, self.ranks, self.device)
        held_out = HeldOut(
            self.corpus,
            self.collate,
            split=split,
            directions=self.directions(),
            examples_per_kind=settings.examples_per_kind,
            batch_size=settings.batch_size,
            ranks=self.ranks,
        )
        with stage("held-out NLL", quiet=quiet):
            found = held_out.nll(network, self.device, self.begin_batch)
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

    def _alignment(self, network: Network, split: str) -> dict[str, Any]:
        """Measure how near the encoder puts documents and their parallels, on a fixed sample of the split.

        All ranks call this; the first one has the figures, others get an empty mapping.
        """
        lengths = self.recipe.lengths
        chosen = choose_parallels(self.corpus, split, self.directions())
        documents = encode_documents(
            network,
            self.corpus,
            chosen,
            Texts(self.reader, self.tokenizer, Lengths(document=lengths.document, summary=lengths.summary)),
            batch_size=self.recipe.evaluation.batch_size,
            ranks=self.ranks,
            device=self.device,
            begin_batch=self.begin_batch,
        )
        return alignment_report(self.corpus, chosen, documents) if self.ranks.is_first else {}
