"""Build the objective and its network, which training, evaluation, summaries and exports share."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from models.config import NetworkConfig
from models.early_fusion import network_type
from models.network import Network
from models.objectives.base import Objective
from shards.errors import InputError, out_of_memory
from shards.languages import LANGUAGE_CODES
from shards.text.tokenizer import Tokenizer
from trainer.extensions import own_inductor_cache
from trainer.recipe import Recipe

#: Keys of a backbone's configuration that change what it computes, and no tensor's shape.
_FORM = (
    *("model_type", "num_heads", "encoder_attention_heads", "decoder_attention_heads", "feed_forward_proj"),
    *("activation_function", "scale_embedding", "relative_attention_max_distance"),
)


def build_network(
    recipe: Recipe, tokenizer: Tokenizer, references: Mapping[str, Network] = MappingProxyType({})
) -> Objective:
    """Return the objective around a new network, the same on every rank: weights follow from the seed.

    references: the recipe's, in training; without them the objective can be evaluated and exported. It is given those
    that it reads; the weights are those of the one that `initialises`. Raises `InputError` where that does not fit the
    recipe's network, and for sizes that memory does not suffice for.
    """
    torch.manual_seed(recipe.training.seed)
    reset = recipe.network.text.reset_start_tokens
    start_ids = () if reset is None else [tokenizer.start_id(language) for language in LANGUAGE_CODES]
    network = new_network(recipe.network, tokenizer, start_ids)
    training = recipe.training
    if training.compile:
        own_inductor_cache()
    network.run_layers(activation_checkpointing=training.activation_checkpointing, compile=training.compile)
    for name, reference in references.items():
        if recipe.references[name].initialises:
            _copy_weights(name, reference, network)
    settings = recipe.objective.settings()
    return settings.build(network, {name: of for name, of in references.items() if name in settings.reference_names})


def new_network(config: NetworkConfig, tokenizer: Tokenizer, start_ids: Sequence[int] = ()) -> Network:
    """Return a network for what `tokenizer` writes. start_ids: tokens that `reset_start_tokens` sets.

    Raises `InputError` for a backbone that does not load, and for sizes that memory does not suffice for.
    """
    try:
        return network_type(config)(
            config,
            tokenizer.vocab_size,
            tokenizer.pad_id,
            tokenizer.eos_id,
            related_ids=tokenizer.related_ids,
            start_ids=start_ids,
            marks_texts=tokenizer.marks_texts,
        )
    except (MemoryError, RuntimeError) as error:
        if (why := out_of_memory(error)) is None:
            raise
        raise InputError(f"the network does not fit into memory ({why}): choose smaller sizes in network.*") from error


def _copy_weights(name: str, reference: Network, network: Network) -> None:
    """Copy all weights of `reference` into `network`; `InputError` with the first difference between the two."""
    theirs, ours = _form(reference), _form(network)
    for what in sorted(theirs.keys() | ours.keys()):
        if theirs.get(what) != ours.get(what):
            raise InputError(
                f"references.{name} initialises the network, but {what} is {ours.get(what, 'absent')} here and "
                f"{theirs.get(what, 'absent')} there: set network.* as in its recipe.yaml, or "
                f"references.{name}.initialises to false"
            )
    network.load_state_dict(reference.state_dict())


def _form(network: Network) -> dict[str, Any]:
    """Return what two networks must share to compute the same with the same weights; tied tensors count once."""
    config = network.backbone.model.config
    keys = {f"network.text {key}": getattr(config, key) for key in _FORM if hasattr(config, key)}
    return keys | {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
