"""Check which configurations of network and objective a recipe may have."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from models.config import FusionConfig, NetworkConfig, TextConfig, VisionConfig
from models.network import Network
from models.objectives import OBJECTIVES, objective_config
from models.objectives.base import Objective
from models.objectives.d2tv_config import D2TVConfig
from models.synthetic import EOS_ID, PAD_ID, tiny_config
from shards.errors import InputError


def test_defaults_are_the_papers() -> None:
    vision, fusion, d2tv = VisionConfig(), FusionConfig(), D2TVConfig()
    assert (vision.feature_size, vision.width, vision.num_layers) == (2048, 2048, 4)
    assert (vision.max_images, vision.regions, fusion.hidden_size) == (5, 36, 256)
    assert (d2tv.label_smoothing, d2tv.alpha_steps, d2tv.beta) == (0.1, 5000, 1.0)
    assert (d2tv.branches, d2tv.distillation, d2tv.contrast) == ("both", "dual", True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextConfig(), "either pretrained or the sizes d_model"),
        (lambda: TextConfig(pretrained="x", d_model=8), "d_model: a pretrained backbone brings its own"),
        (lambda: VisionConfig(feature_size=10, num_heads=4), "does not divide the visual width 10"),
        (lambda: FusionConfig(hidden_size=10, num_heads=4), "does not divide hidden_size 10"),
        (lambda: VisionConfig(layers=3), "Extra inputs are not permitted"),
        (lambda: D2TVConfig(distance="l1"), "'cosine', 'mse' or 'kl'"),
        (lambda: D2TVConfig(temperature=0), "greater than 0"),
    ],
)
def test_refused(make, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()


def test_a_saved_configuration_loads_again() -> None:
    config = tiny_config()
    assert NetworkConfig.model_validate(config.model_dump()) == config
    pretrained = NetworkConfig(text=TextConfig(pretrained="somewhere"))
    assert NetworkConfig.model_validate(pretrained.model_dump()) == pretrained


def recipe_of(network: NetworkConfig) -> Any:
    return SimpleNamespace(network=network, mixture=SimpleNamespace(directions="all"))


@pytest.mark.parametrize("branches", ["mms", "mxls"])
def test_distillation_needs_both_branches(branches: str) -> None:
    with pytest.raises(InputError, match="set branches to 'both', or distillation to 'none'"):
        D2TVConfig(branches=branches).check(recipe_of(tiny_config()))


def test_contrast_needs_images() -> None:
    with pytest.raises(InputError, match=r"set objective\.contrast to false, or network\.vision\.enabled to true"):
        D2TVConfig().check(recipe_of(tiny_config(vision=False)))


def test_registry() -> None:
    for name, config_type in OBJECTIVES.items():
        assert objective_config(name) is config_type
        settings = config_type.model_validate({"labels": ["no", "yes"]} if config_type.from_corpus else {})
        assert isinstance(settings.build(Network(tiny_config(), 50, PAD_ID, EOS_ID)), Objective)
    with pytest.raises(InputError, match="no objective 'd2vt' \\(did you mean 'd2tv'\\?\\)"):
        objective_config("d2vt")


def test_a_checkpoint_brings_its_own_head_and_weights() -> None:
    with pytest.raises(ValueError, match="tie_word_embeddings: a pretrained backbone brings a head of its own"):
        TextConfig(pretrained="mt5", tie_word_embeddings=True)
    with pytest.raises(ValueError, match="copying_start: a pretrained backbone brings its own weights"):
        TextConfig(pretrained="mt5", copying_start=True)


def test_starts_that_have_nothing_to_start_from_are_refused() -> None:
    with pytest.raises(ValueError, match="copying_start: mT5's embeddings are too small to be copied"):
        TextConfig(d_model=8, d_ff=8, d_kv=8, num_heads=1, num_layers=1, copying_start=True)
    with pytest.raises(ValueError, match="copying_start: without tie_word_embeddings"):
        TextConfig(architecture="mbart", d_model=8, d_ff=8, num_heads=1, num_layers=1, copying_start=True)
    with pytest.raises(ValueError, match="feature_scale: without hidden_size no Linear follows"):
        VisionConfig(feature_scale=0.5)
