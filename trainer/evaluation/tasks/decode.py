"""Decode held-out examples by beam search, shared among the ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from models.network import Network
from models.sharing import Text
from shards.arrays import Ints
from shards.batch.transforms import Transform
from shards.errors import InputError
from shards.stream.sampler import Groups
from trainer.distributed import from_first_rank, raise_together
from trainer.evaluation.decoding import Predictions, decoding_batches
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import take_groups
from trainer.terminal.progress import stage


def decode(
    evaluator: Evaluator,
    network: Network,
    groups: Groups,
    parts: Path,
    facts: object,
    *,
    reads: Text = "source",
    perturbations: Sequence[Transform] = (),
) -> Predictions:
    """Predict `groups` into the files of `parts`; predictions there of the same facts are kept.

    All ranks call this together, and all raise where one fails. reads: what is written from, as of `Network.writing`.
    """
    ranks, begin_batch = evaluator.ranks, evaluator.begin_batch
    found = Predictions(parts, groups, [facts])
    problem: InputError | None = None
    try:
        if ranks.is_first:
            found.begin()
    except InputError as error:
        problem = error
    raise_together(problem)
    done = cast(list[int], from_first_rank(sorted(found.read()) if ranks.is_first else None))
    rule = evaluator.recipe.corpus.image_rule(training=False)
    batches = decoding_batches(groups, evaluator.corpus, evaluator.recipe.evaluation.batch_size, rule)
    left = [number for number in range(len(batches)) if number not in set(done)]
    mine = left[ranks.rank :: ranks.world_size]
    try:
        _decode(evaluator, network, groups, found, {number: batches[number] for number in mine}, reads, perturbations)
    except InputError as error:
        problem = error
    begin_batch()  # restarts the watchdog's clock: a quick rank waits for the others
    with stage("waiting for the other ranks", quiet=not ranks.is_first):
        raise_together(problem)
    if ranks.is_first:
        missing = set(range(len(batches))) - found.read().keys()
        if missing:
            problem = InputError(
                f"{len(missing)} batches are no longer in {parts}: is another evaluation of this run going on? The "
                "same command decodes them anew"
            )
    raise_together(problem)
    return found


def _decode(
    evaluator: Evaluator,
    network: Network,
    groups: Groups,
    found: Predictions,
    batches: dict[int, Ints],
    reads: Text,
    perturbations: Sequence[Transform],
) -> None:
    """Decode this rank's share."""
    settings, ranks = evaluator.recipe.evaluation, evaluator.ranks
    decoding = settings.decoding(evaluator.recipe.lengths.summary)
    collate = evaluator.collator(perturbations)
    # Progress is that of one rank's share, which is as large as the others'.
    with stage("decoding", sum(map(len, batches.values())), quiet=not ranks.is_first) as progress:
        for number, places in batches.items():
            evaluator.begin_batch()
            chosen = take_groups(groups, places)
            batch = collate(chosen)
            # Random numbers follow from the example, not from its place in the batch.
            pairs = chosen.source[:, 0] * len(evaluator.corpus.articles) + chosen.target[:, 0]
            written = network.generate(batch, decoding, pairs.tolist(), reads).tolist()
            images = batch.image_mask_BI.sum(dim=1).tolist()
            rows = [
                {"number": example, "prediction": evaluator.tokenizer.decode(ids), "images": seen}
                for example, ids, seen, weight in zip(
                    chosen.number.tolist(), written, images, batch.weight_B.tolist(), strict=True
                )
                if weight
            ]
            found.add(ranks.rank, number, rows)
            progress.advance(len(batch))
