"""Evaluation after training: of a run, one of its checkpoints or an exported model; no optimizer, one process."""

from collections.abc import Sequence
from pathlib import Path

from shards.index import open_corpus
from shards.tokenizer import open_tokenizer
from trainer.build import build_evaluator
from trainer.distributed import Ranks, join, leave
from trainer.evaluation.closing_table import print_report
from trainer.plan import check_corpus, check_lengths
from trainer.trained import check_same_corpus, course_until, find_trained, trained_network, trained_recipe


def evaluate(where: Path, split: str, overrides: Sequence[str]) -> None:
    """Decode and score `split`, print the table, write evaluation/: in the run, or in the exported model.

    where: a run (its newest whole checkpoint), a checkpoint, or an exported model. Raises `InputError`.
    """
    path = find_trained(where)
    recipe = trained_recipe(path, overrides)
    corpus = open_corpus(recipe.corpus.path)
    check_same_corpus(path, corpus.content_hash, str(corpus.directory))
    check_corpus(recipe, corpus)
    tokenizer = open_tokenizer(recipe.corpus.tokenizer or corpus.directory / "tokenizer")
    check_lengths(recipe, tokenizer)
    alone = Ranks(rank=0, local_rank=0, world_size=1)
    device = join(alone)
    network = trained_network(recipe, tokenizer, path)
    evaluator = build_evaluator(recipe, corpus, tokenizer, alone, device)
    try:
        report = evaluator.run(network.to(device), split, path)
    finally:
        evaluator.reader.close()
    assert report is not None
    print_report(report, course_until(path), recipe.run)
    leave()
