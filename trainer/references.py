"""Find the frozen networks that an objective reads, and check them. Imports no torch.

A recipe names a reference by path, and a run holds it by `identity`: the hash of the manifest of the checkpoint or
exported model, or of the files of a Hugging Face directory. Its tensors are in no checkpoint of the run, so a resumed
run must be given the same network again.

What a recipe, a manifest and a config.json tell is checked by every rank before it joins. The bytes are read once they
have joined, by one rank a host: a rank that left alone before would make others wait, and its exit code might be lost.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.backbones.checkpoint_config import check_tokenizer, find_weights, max_length
from models.config import NetworkConfig, TextConfig, VisionConfig
from models.shapes import KINDS
from shards.errors import InputError
from shards.files.read import read_json
from shards.format.index import Corpus, open_corpus
from shards.text.start_tokens import unlike_start
from shards.text.tokenizer import Tokenizer, open_tokenizer
from trainer.checkpoint.directory import file_hash, identity, read_state
from trainer.checkpoint.tidying import reading
from trainer.recipe import Recipe
from trainer.trained_files import (
    CONFIG,
    RECIPE,
    STATE,
    check_same_corpus,
    find_trained,
    is_model,
    read_product,
    trained_recipe,
)

#: File of a checkpoint: name -> where the reference lay, and its identity. A run without references writes none.
REFERENCES = "references.json"
#: Keys that two networks of the same weights may have different values of: rates, and first values.
_FREE = {"vision": {"dropout"}, "fusion": {"dropout", "visual_start"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A checkpoint, exported model or Hugging Face directory that a run reads.

    recipe: what it was trained by; None of a Hugging Face directory.  identity: None of one that is not read yet.
    """

    path: Path
    recipe: Recipe | None
    identity: str | None

    @property
    def network(self) -> NetworkConfig:
        """Return the configuration of the read network. A Hugging Face directory holds a text backbone alone."""
        if self.recipe is not None:
            if is_model(self.path):
                _, product = read_product(self.path)
                return product or self.recipe.network
            return self.recipe.objective.settings().product_of(self.recipe.network)
        return NetworkConfig(text=TextConfig(pretrained=str(self.path)), vision=VisionConfig(enabled=False))


def find_references(recipe: Recipe) -> dict[str, Reference]:
    """Return what the paths of `references` mean, by name. Raises `InputError`, which names the key.

    A run means its newest whole checkpoint. Reads no weights: `read_references` does.
    """
    found = {}
    for name, section in recipe.references.items():
        key, model = f"references.{name}.model", section.model
        if (model / CONFIG).is_file() and not any((model / ours).exists() for ours in (RECIPE, STATE)):
            if section.initialises:
                raise InputError(
                    f"references.{name}.initialises: {model} is a Hugging Face directory, which has neither vision nor "
                    f"fusion: set it to false, and network.text.pretrained={model} to start from its text part"
                )
            found[name] = Reference(path=model, recipe=None, identity=None)
            continue
        with _naming(key):
            path = find_trained(model, (RECIPE, STATE))
            found[name] = Reference(path=path, recipe=trained_recipe(path), identity=identity(path))
    return found


def read_references(references: Mapping[str, Reference]) -> dict[str, Reference]:
    """Read every byte of the references, and return them with their identities. `InputError` for a damaged one."""
    read = {}
    for name, reference in references.items():
        with reading_of(name, reference):
            of_files = reference.recipe is None
            digest = _hash_of_files(reference.path) if of_files else identity(find_trained(reference.path))
        read[name] = replace(reference, identity=digest)
    return read


@contextlib.contextmanager
def reading_of(name: str, reference: Reference) -> Iterator[None]:
    """Keep a reference's training, if it goes on, from dropping it in the block, and name its key in an error there."""
    foreign = reference.recipe is None
    kept = contextlib.nullcontext() if foreign else reading(reference.path)
    with _naming(f"references.{name}.model", foreign=foreign), kept:
        yield


def check_same_on_hosts(found: Sequence[tuple[str, Mapping[str, Reference]]]) -> None:
    """Raise `InputError` unless all hosts have the same networks under the paths. found: (host, what it has read)."""
    (first, known), *others = found
    for host, read in others:
        for name, reference in read.items():
            if reference.identity != known[name].identity:
                here, there = (_shown(str(reference.path), of.identity) for of in (known[name], reference))
                raise InputError(
                    f"references.{name}.model: {here} on {first} is another network than {there} on {host}: copy one "
                    "of them to both hosts"
                )


def check_references(references: Mapping[str, Reference], recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Raise `InputError` where a reference cannot read the run's batches, or cannot be what the network starts from."""
    for name, reference in references.items():
        key = f"references.{name}"
        if reference.recipe is None:
            with _naming(f"{key}.model", foreign=True):
                _check_vocabulary(reference, tokenizer)
        else:
            _check_same_words(key, reference.path, reference.recipe, corpus, tokenizer)
        _check_sizes(key, reference, recipe, tokenizer)
        if recipe.references[name].initialises:
            _check_same_form(key, reference, recipe)


def check_same_references(references: Mapping[str, Reference], checkpoint: Path) -> None:
    """Raise `InputError`, with both paths and hashes, unless `checkpoint` was trained with the same references.

    One that is not read yet is passed over.
    """
    file = checkpoint / REFERENCES
    try:
        values = read_json(file) if file.is_file() else {}
        before = {name: (entry["path"], entry["identity"]) for name, entry in values.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} cannot be read ({error!r}): copy {checkpoint} anew") from error
    now = {name: (str(reference.path), reference.identity) for name, reference in references.items()}
    unread = {name for name, reference in references.items() if reference.identity is None}
    for name in sorted((before.keys() | now.keys()) - unread):
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


@contextlib.contextmanager
def _naming(key: str, *, foreign: bool = False) -> Iterator[None]:
    """Name `key` in an `InputError` of the block. foreign: in place of the key that a run names a backbone by."""
    try:
        yield
    except InputError as error:
        message = str(error).removeprefix("network.text.pretrained: ") if foreign else str(error)
        raise InputError(f"{key}: {message}") from error


def _hash_of_files(directory: Path) -> str:
    """Return the hash of config.json and of the weights that transformers would load, by their names."""
    weights = find_weights(str(directory))
    files = {directory / CONFIG, weights.file, *(weights.parts or {}).values()}
    try:
        hashes = {str(file.relative_to(directory)): file_hash(file) for file in sorted(files)}
    except OSError as error:
        raise InputError(f"{directory} cannot be read ({error}): copy it anew") from error
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _check_vocabulary(reference: Reference, tokenizer: Tokenizer) -> None:
    """Hold a Hugging Face directory against the run's tokenizer, as `network.text.pretrained` is."""
    facts = tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id, tokenizer.related_ids
    check_tokenizer(reference.network.text, *facts)
    max_length(reference.network.text)
    find_weights(str(reference.path))
    unlike = None if tokenizer.langid_map is None else unlike_start(reference.path, tokenizer.langid_map)
    if unlike is not None:
        language, trained, token = unlike
        raise InputError(
            f"{reference.path} begins {language} summaries with {trained}, the tokenizer with {token}: set "
            f"corpus.tokenizer={reference.path} and corpus.start_tokens=published"
        )


def _check_same_words(key: str, path: Path, trained_by: Recipe, corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Hold the reference's tokenizer against the run's, token by token: both networks read the same ids."""
    section = trained_by.corpus
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
    longest, lengths = max_length(reference.network.text), recipe.lengths
    needed = max(lengths.document, lengths.summary + tokenizer.marks_texts)
    if longest is not None and needed > longest:
        raise InputError(f"{key}: {reference.path} reads {longest} tokens, but lengths.* need {needed}: lower them")
    own, other = recipe.network.vision, reference.network.vision
    if not other.enabled:
        return
    if not own.enabled:
        raise InputError(
            f"{key}: {reference.path} reads images, but network.vision.enabled is false and loads none: set it to "
            "true, or name a network of text alone"
        )
    for kind in KINDS:
        if other.reads(kind) and not own.reads(kind):
            raise InputError(
                f"{key}: {reference.path} reads images as {kind}, but network.vision.inputs {own.inputs} loads none: "
                f"set it to {other.inputs}"
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
    own, other = recipe.network.model_dump(), reference.network.model_dump()
    parts = ("vision", "fusion") if own["vision"]["enabled"] and other["vision"]["enabled"] else ()
    for part in parts:
        for name, value in own[part].items():
            known = other[part][name]
            if value != known and name not in _FREE[part]:
                raise InputError(
                    f"{key} initialises the network, but network.{part}.{name} is {value} here and {known} in "
                    f"{reference.path}: set it to {known}"
                )
