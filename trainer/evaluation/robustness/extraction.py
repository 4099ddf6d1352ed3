"""Make features of pictures as the corpus' own were made."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from shards.corpora.features import GridFeatures
from shards.corpora.grid import EXTRACTOR, grid_boxes
from shards.corpora.npm import RESNET, fetch
from shards.files.caches import default_cache
from shards.format.index import Corpus
from trainer.evaluation.robustness.corruptions import why_not_usable


def why_no_pictures(corpus: Corpus, *, features: bool = True) -> str | None:
    """Return the reason why this corpus' pictures cannot be perturbed; None where they can.

    features: of them are read, too.
    """
    if why := corpus.why_no_pixels:
        return f"{why}, and set corpus.path="
    if features and _made_by(corpus).get("extractor") != EXTRACTOR:
        return f"{corpus.location} has features that cannot be made here of a picture (only {EXTRACTOR} can)"
    return why_not_usable()


class Extractor:
    """Pictures to features (n, R, V) and boxes (R, 4), with the network and the precision of the corpus' features.

    The network is loaded when the first picture comes.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._precision = str(_made_by(corpus).get("computed_in"))

    def __call__(self, pictures: Sequence[Image.Image]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        return self._network.extract(pictures), grid_boxes()

    @functools.cached_property
    def _network(self) -> GridFeatures:
        return GridFeatures(fetch(RESNET, default_cache()), getattr(torch, self._precision))


def _made_by(corpus: Corpus) -> dict[str, object]:
    """Return the manifest's entry on the features' origin."""
    found = corpus.manifest["provenance"].get("features")
    return dict(found) if isinstance(found, dict) else {}
