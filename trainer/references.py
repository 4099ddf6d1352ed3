"""Find the frozen networks that an objective reads, and check them, before any rank joins. Imports no torch.

A recipe names a reference by path, and a run holds it by `identity`: the hash of the manifest of the checkpoint or
exported model. Its tensors are in no checkpoint of the run, so a resumed run must be given the same network again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.backbones.checkpoint_config import max_length
from shards.errors import InputError
from shards.files.read import read_json
from shards.format.index import Corpus, open_corpus
from shards.text.tokenizer import Tokenizer, open_tokenizer
from trainer.checkpoint.directory import identity, read_state
from trainer.recipe import Recipe
from trainer.trained_files import CONFIG, RECIPE, check_same_corpus, find_trained, trained_recipe

#: File of a checkpoint: name -> where the reference lay, and its identity. A run without references writes none.
REFERENCES = "references.json"
#: Keys that two networks of the same weights may have different values of: rates, and first values.
_FREE = {"vision": {"dropout"}, "fusion": {"dropout", "visual_start"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A sound checkpoint or exported model that a run reads. recipe: what it was trained by."""

    path: Path
    identity: str
    recipe: Recipe


def find_references(recipe: Recipe) -> dict[str, Reference]:
    """Return what the paths of `references` mean, by name; reads every byte. Raises `InputError`, which names the key.

    A run means its newest whole checkpoint.
    """
    found = {}
    for name, section in recipe.references.items():
        key, model = f"references.{name}.model", section.model
        if (model / CONFIG).is_file() and not (model / RECIPE).is_file():
            raise InputError(
                f"{key}: {model} is a Hugging Face directory: give a run, a checkpoint or a model that `d2tv export` "
                "wrote; a run may begin from it with network.text.pretrained="
            )
        try:
            path = find_trained(model)
            found[name] = Reference(path=path, identity=identity(path), recipe=trained_recipe(path))
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
    return found


def check_references(references: Mapping[str, Reference], recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Raise `InputError` where a reference cannot read the run's batches, or cannot be what the network starts from."""
    for name, reference in references.items():
        _check_same_words(f"references.{name}", reference, corpus, tokenizer)
        _check_sizes(f"references.{name}", reference, recipe, tokenizer)
        if recipe.references[name].initialises:
            _check_same_form(f"references.{name}", reference, recipe)


def check_same_references(references: Mapping[str, Reference], checkpoint: Path) -> None:
    """Raise `InputError`, with both paths and hashes, unless `checkpoint` was trained with the same references."""
    file = checkpoint / REFERENCES
    try:
        values = read_json(file) if file.is_file() else {}
        before = {name: (entry["path"], entry["identity"]) for name, entry in values.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} cannot be read ({error!r}): copy {checkpoint} anew") from error
    now = {name: (str(reference.path), reference.identity) for name, reference in references.items()}
    for name in sorted(before.keys() | now.keys()):
        was, given = before.get(name, ("nothing", None)), now.get(name, ("nothing", None))
        if was[1] != given[1]:
            raise InputError(
                f"{checkpoint} was trained with references.{name} {_shown(*was)}, this run has {_shown(*given)}: "
                "restore it or choose another run="
            )


def references_json(references: Mapping[str, Reference]) -> str:
    """Return the text of references.json."""
    entries = {name: {"path": str(found.path), "identity": found.identity} for name, found in references.items()}
    return json.dumps(entries, indent=1) + "\n"


def _shown(path: str, digest: str | None) -> str:
    return path if digest is None else f"{path} (sha256 {digest[:16]})"


def _check_same_words(key: str, reference: Reference, corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Hold the reference's tokenizer against the run's, token by token: both networks read the same ids."""
    path, section = reference.path, reference.recipe.corpus
    directory: Path | str
    if section.tokenizer is not None:
        directory = section.tokenizer
    elif read_state(path).corpus == corpus.content_hash:
        directory = corpus.tokenizer  # also where the corpus has moved since
    else:
        try:
            own = open_corpus(section.path)
            check_same_corpus(path, own.content_hash, section.path)
        except InputError as error:
            raise InputError(f"{key}: its tokenizer is not found ({error}): name an export of it instead") from error
        directory = own.tokenizer
    other = open_tokenizer(directory, section.start_tokens)
    what = next(
        (what for what in ("vocab_size", "pad_id", "eos_id") if getattr(other, what) != getattr(tokenizer, what)), None
    )
    if what is None:
        started = [name for name in corpus.languages if other.start_id(name) != tokenizer.start_id(name)]
        unlike = (word for word in range(other.vocab_size) if other.decode([word]) != tokenizer.decode([word]))
        what = f"start token of {started[0]}" if started else next((f"token {word}" for word in unlike), None)
    if what is not None:
        raise InputError(
            f"{key}: {path} was trained with another tokenizer, {directory} (another {what}): set corpus.tokenizer to "
            "it, or name a network of this run's tokenizer"
        )


def _check_sizes(key: str, reference: Reference, recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Hold the run's texts and images against what the reference can read."""
    longest, lengths = max_length(reference.recipe.network.text), recipe.lengths
    needed = max(lengths.document, lengths.summary + tokenizer.marks_texts)
    if longest is not None and needed > longest:
        raise InputError(f"{key}: {reference.path} reads {longest} tokens, but lengths.* need {needed}: lower them")
    own, other = recipe.network.vision, reference.recipe.network.vision
    if not other.enabled:
        return
    if not own.enabled:
        raise InputError(
            f"{key}: {reference.path} reads images, but network.vision.enabled is false and loads none: set it to "
            "true, or name a network of text alone"
        )
    for name in ("feature_size", "regions", "max_images"):
        value, known = getattr(own, name), getattr(other, name)
        if value > known or (value != known and name != "max_images"):
            raise InputError(
                f"{key}: network.vision.{name} is {value} here, but {known} in {reference.path}: set it to {known}"
            )


def _check_same_form(key: str, reference: Reference, recipe: Recipe) -> None:
    """Hold what of the network can be compared before it is built (trainer/network.py compares the rest)."""
    if recipe.network.text.reset_start_tokens is not None:
        raise InputError(
            f"network.text.reset_start_tokens would be overwritten by the weights of {key}: remove it, or set "
            f"{key}.initialises to false"
        )
    own, other = recipe.network.model_dump(), reference.recipe.network.model_dump()
    parts = ("vision", "fusion") if own["vision"]["enabled"] and other["vision"]["enabled"] else ()
    for part in parts:
        for name, value in own[part].items():
            known = other[part][name]
            if value != known and name not in _FREE[part]:
                raise InputError(
                    f"{key} initialises the network, but network.{part}.{name} is {value} here and {known} in "
                    f"{reference.path}: set it to {known}"
                )
