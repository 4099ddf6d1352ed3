"""Check what of a run can be refused before any rank joins: its recipe, corpus, DeepSpeed config and checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.backbones.checkpoint_config import check_tokenizer, max_length
from shards.batch.fields import picture_side
from shards.batch.reader import Reader
from shards.directions import parse_directions
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.labels import label_counts
from shards.format.manifest import SPLITS
from shards.storage.hub import directory_of
from shards.stream.bundles import BundledSampler
from shards.stream.mixture import segments
from shards.stream.partition import Partition
from shards.stream.sampler import Sampler
from shards.stream.subsample import keep_examples
from shards.text.start_tokens import named_starts, unlike_start
from shards.text.tokenizer import Tokenizer, open_tokenizer
from trainer.checkpoint.directory import (
    CORPUS,
    INDEX,
    check_resumable,
    damage,
    read_state,
    whole_checkpoints,
)
from trainer.ds_config import load_ds_config
from trainer.ds_keys import check_ds_keys
from trainer.evaluation.scoring.models import check_models, models_of
from trainer.extensions import check_code_caches
from trainer.ranks import Ranks
from trainer.recipe import ObjectiveSection, Recipe, load_saved_recipe
from trainer.references import REFERENCES, Reference, check_references, check_same_references, find_references
from trainer.runs.files import check_run_files
from trainer.telemetry.prometheus.guards import check_guards
from trainer.telemetry.trackers import check_trackers
from trainer.verdicts import check_same_recipe

#: auto: from the newest sound checkpoint, or from the beginning where there is none.
#: never: from the beginning; refused where there are checkpoints.  must: never from the beginning.
Resume = Literal["auto", "never", "must"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A run that passed every check that needs no other rank."""

    recipe: Recipe
    ds_config: dict[str, Any]
    ranks: Ranks
    corpus: Corpus
    tokenizer: Tokenizer
    partition: Partition
    sampler: Sampler
    reader: Reader
    references: Mapping[str, Reference]  # as they are found; their bytes are read once all ranks have joined


def plan_run(recipe: Recipe, ds_config: Path, ranks: Ranks, resume: Resume = "auto") -> Plan:
    """Check recipe, corpus, DeepSpeed config and checkpoints against each other; `InputError` at the first misfit."""
    corpus = keep_examples(open_corpus(recipe.corpus.path), recipe.corpus.most_examples)
    check_corpus(recipe, corpus)
    _check_groups(recipe, corpus)
    recipe = with_labels(recipe, corpus)
    sampler = build_sampler(recipe, corpus)
    reader = recipe.loader.open(corpus)
    partition = Partition(
        groups_per_step=recipe.batch.groups_per_step,
        groups_per_micro_batch=recipe.batch.groups_per_micro_batch,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    check_trackers(recipe.tracking)
    check_guards(recipe.prometheus)
    check_resume(resume, recipe.run)
    config = load_ds_config(ds_config, recipe, ranks.world_size)
    references = find_references(recipe)
    going_on: Path | None = None
    for checkpoint in whole_checkpoints(recipe.run / "checkpoints"):
        if not (checkpoint / INDEX).is_file() and (checkpoint / "deepspeed").is_dir():
            raise InputError(
                f"{checkpoint} was written by release 0.1.0, which this one cannot read: choose another run="
            )
        held = (REFERENCES,) if (checkpoint / REFERENCES).is_file() else ()
        if damage(checkpoint, ("recipe.yaml", "ds_config.json", "state.json", CORPUS, *held)):
            continue  # passed over with a line when it is time to load one
        check_same_recipe(recipe, config, checkpoint)
        check_resumable(read_state(checkpoint), checkpoint, seed=recipe.training.seed, manifest=corpus.manifest)
        check_same_references(references, checkpoint)
        going_on = checkpoint
        break
    if not whole_checkpoints(recipe.run / "checkpoints"):
        check_run_files(recipe.run)
    tokenizer = open_tokenizer(recipe.corpus.tokenizer or corpus.tokenizer, recipe.corpus.start_tokens)
    if going_on is not None:
        _check_same_start_tokens(recipe, corpus, tokenizer, going_on)
    check_start_tokens(recipe, tokenizer)
    check_lengths(recipe, tokenizer)
    facts = tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id, tokenizer.related_ids
    check_tokenizer(recipe.network.text, *facts)
    check_references(references, recipe, corpus, tokenizer)
    check_code_caches()
    check_ds_keys(ds_config, config)
    try:
        recipe.run.mkdir(parents=True, exist_ok=True)  # last: a refused run leaves nothing behind
    except OSError as error:
        raise InputError(
            f"run={recipe.run} is no directory to write to ({error.strerror}): choose another run="
        ) from error
    return Plan(
        recipe=recipe,
        ds_config=config,
        ranks=ranks,
        corpus=corpus,
        tokenizer=tokenizer,
        partition=partition,
        sampler=sampler,
        reader=reader,
        references=references,
    )


def with_labels(recipe: Recipe, corpus: Corpus) -> Recipe:
    """Return the recipe with the labels that its objective takes from the corpus. Raise `InputError` for unfit ones."""
    of_split = {split: _labels_of(corpus, split) for split in SPLITS}
    settings = recipe.objective.settings().with_labels(
        of_split["train"], of_split["validation"] | of_split["test"], corpus.location
    )
    return recipe.model_copy(update={"objective": ObjectiveSection.model_validate(settings.model_dump())})


def _labels_of(corpus: Corpus, split: str) -> set[str]:
    return {name for name, count in zip(corpus.label_names, label_counts(corpus, split), strict=True) if count}


def build_sampler(recipe: Recipe, corpus: Corpus) -> Sampler:
    """Return the run's stream of training examples. Raise `InputError` where mixture and corpus do not fit."""
    batch, seed = recipe.batch, recipe.training.seed
    mixture = segments(recipe.mixture, batch.groups_per_step, batch.groups_per_step * recipe.training.steps)
    if batch.sources_per_target == 1:
        return Sampler(corpus, split="train", mixture=mixture, seed=seed, group_size=batch.group_size)
    return BundledSampler(
        corpus,
        split="train",
        mixture=mixture,
        seed=seed,
        group_size=batch.group_size,
        sources_per_target=batch.sources_per_target,
    )


def check_resume(resume: Resume, run: Path) -> None:
    """Refuse, before any rank joins, what `resume` and the run directory make impossible (`InputError`)."""
    found = whole_checkpoints(run / "checkpoints")
    if resume == "never" and found:
        raise InputError(
            f"--resume never, but {run} holds {found[0].name}: choose another run=, or remove {run}/checkpoints if it "
            "is not wanted"
        )
    if resume == "must" and not found:
        raise InputError(f"--resume must, but {run}/checkpoints holds no whole checkpoint: is run= the right one?")


def _check_groups(recipe: Recipe, corpus: Corpus) -> None:
    """Hold the size of groups against the examples to train on."""
    most = int(corpus.direction_counts("train").sum(axis=1).max())
    if recipe.batch.group_size > most > 0:
        raise InputError(
            f"batch.group_size is {recipe.batch.group_size}, but no target language of {corpus.location} has more than "
            f"{most} examples to train on: set it to at most {most}"
        )


def check_corpus(recipe: Recipe, corpus: Corpus) -> None:
    """Check directions and feature sizes of the recipe against the corpus, and the models that are to score."""
    check_models(models_of(recipe.evaluation))
    parse_directions(recipe.evaluation.directions, corpus.languages, recipe.mixture.languages)
    vision = recipe.network.vision
    if picture_side(recipe.needs) and (why := corpus.why_no_pixels):
        reads = (
            f"network.vision.inputs {vision.inputs}"
            if vision.reads("patches")
            else f"objective {recipe.objective.name}"
        )
        raise InputError(f"{reads} reads the pixels of images, but {why}, and set corpus.path=")
    for key, wanted in (("feature_size", vision.feature_size), ("regions", vision.regions)):
        stored = corpus.manifest[key]
        if vision.reads("regions") and stored and stored != wanted:
            raise InputError(
                f"network.vision.{key} is {wanted}, but {corpus.directory} holds {stored}: set it to {stored}"
            )


def check_lengths(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Hold beams against the vocabulary, and lengths against the positions of a backbone that has a number of them."""
    beams, words = recipe.evaluation.num_beams, tokenizer.vocab_size
    if beams > words:
        raise InputError(f"evaluation.num_beams is {beams}, but the tokenizer has {words} words: set it to fewer")
    longest, lengths = max_length(recipe.network.text), recipe.lengths
    if longest is None:
        return
    joint = recipe.network.joint
    # [CLS] regions [SEP] patches [SEP] [BOS], before a document; a summary read as a text may begin with its language.
    read = 0
    if joint is not None:
        read = recipe.network.vision.max_images * joint.tokens + 3 + bool(joint.regions and joint.patches)
    limits = {
        "document": (lengths.document, longest - read),
        "summary": (lengths.summary, longest - tokenizer.marks_texts - (joint is not None)),
    }
    for key, (length, most) in limits.items():
        if length > most:
            wanted = f"network.text.max_position_embeddings to at least {longest - most + length}"
            fixes = [f"it to at most {most}"] if most > 1 else []
            fixes += [wanted] if recipe.network.text.pretrained is None else []
            raise InputError(
                f"lengths.{key} is {length}, but the backbone of network.text has {longest} positions"
                f"{_taken(key, read)}: set {' or '.join(fixes) or 'fewer network.vision.max_images'}"
            )


def _taken(key: str, read: int) -> str:
    return f", of which {read} are for the images" if key == "document" and read else ""


def check_start_tokens(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Hold an mT5 checkpoint that was trained with start tokens of its own against the tokenizer's (`InputError`)."""
    where, tokens = recipe.network.text.pretrained, tokenizer.langid_map
    if where is None or tokens is None or recipe.corpus.start_tokens == "alphabetical":
        return
    directory = directory_of(where, f"network.text.pretrained: {where!r}")
    if named_starts(directory) is None:
        return
    if recipe.network.text.reset_start_tokens is not None:
        raise InputError(
            f"network.text.reset_start_tokens would overwrite what {where!r} has learned of its start tokens (its "
            "config.json names them): remove the key"
        )
    if unlike := unlike_start(directory, tokens):
        language, trained, token = unlike
        raise InputError(
            f"network.text.pretrained: {where!r} begins {language} summaries with {trained}, the tokenizer with "
            f"{token}: set corpus.tokenizer={where}"
        )


def _check_same_start_tokens(recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer, checkpoint: Path) -> None:
    """Raise `InputError` where a language's summaries begin with another token than the run's did so far."""
    before = load_saved_recipe(checkpoint / "recipe.yaml").corpus.start_tokens
    if before == recipe.corpus.start_tokens:
        return
    former = open_tokenizer(recipe.corpus.tokenizer or corpus.tokenizer, before)
    if any(former.start_id(language) != tokenizer.start_id(language) for language in corpus.languages):
        raise InputError(
            f"{recipe.run} was begun with another corpus.start_tokens ({before}): restore it, or choose another run="
        )
