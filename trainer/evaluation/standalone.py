"""Evaluation of a run that is over: its newest whole checkpoint, no optimizer, one process."""

from collections.abc import Sequence
from pathlib import Path

from shards.errors import InputError
from shards.index import open_corpus
from shards.tokenizer import open_tokenizer
from trainer.build import build_evaluator, build_network
from trainer.checkpoint import damage, model_weights, read_state, whole_checkpoints
from trainer.distributed import Ranks, join, leave
from trainer.evaluation.evaluate import print_report
from trainer.plan import check_corpus, check_lengths
from trainer.recipe import load_recipe
from trainer.run import validations


def evaluate_run(run: Path, split: str, overrides: Sequence[str]) -> None:
    """Decode and score `split`, print the table, write evaluation/ in the run. Raises `InputError`."""
    checkpoints = whole_checkpoints(run / "checkpoints")
    if not checkpoints:
        raise InputError(f"no whole checkpoint under {run}/checkpoints: is {run} a run directory?")
    checkpoint = checkpoints[0]
    if problem := damage(checkpoint):
        raise InputError(f"{checkpoint} is damaged: {problem}")
    recipe = load_recipe(str(checkpoint / "recipe.yaml"), [f"run={run}", *overrides])
    corpus = open_corpus(recipe.corpus.path)
    state = read_state(checkpoint)
    if state.corpus != corpus.content_hash:
        raise InputError(f"{corpus.directory} is not the corpus that {run} was trained on: set corpus.path=")
    check_corpus(recipe, corpus)
    tokenizer = open_tokenizer(recipe.corpus.tokenizer or corpus.directory / "tokenizer")
    check_lengths(recipe, tokenizer)
    alone = Ranks(rank=0, local_rank=0, world_size=1)
    device = join(alone)
    objective = build_network(recipe, tokenizer)
    objective.load_state_dict(model_weights(checkpoint))
    evaluator = build_evaluator(recipe, corpus, tokenizer, alone, device)
    try:
        report = evaluator.run(objective.to(device).network, split, checkpoint)
    finally:
        evaluator.reader.close()
    assert report is not None
    print_report(report, validations(run), run)
    leave()
