"""Patches of pictures, and what embeds them."""

from dataclasses import fields

import pytest
import torch

from models.patches import PatchEmbedding, patches
from models.synthetic import random_batch, same_target
from shards.errors import InputError


def pictures(count: int = 3, side: int = 224) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=draw)


def test_a_patch_is_a_square_of_its_picture() -> None:
    pixels_XHWC = pictures()
    found = patches(pixels_XHWC, torch.float32)
    assert found.shape == (3, 49, 32 * 32 * 3)
    for image in range(3):
        for patch in (0, 6, 7, 30, 48):
            row, column = 32 * (patch // 7), 32 * (patch % 7)
            square = pixels_XHWC[image, row : row + 32, column : column + 32]
            assert torch.allclose(found[image, patch], square.flatten().float() / 127.5 - 1, atol=1e-6)
    wide = patches(pixels_XHWC[:, :32], torch.float32)
    assert torch.equal(wide, found[:, :7])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_are_of_the_type_asked_for_and_reach_from_minus_one_to_one(dtype: torch.dtype) -> None:
    pixels_XHWC = torch.arange(256, dtype=torch.uint8).repeat(3 * 16).view(1, 64, 64, 3)
    found = patches(pixels_XHWC, dtype)
    assert found.dtype == dtype
    assert (float(found.min()), float(found.max())) == (-1, 1)
    assert abs(float(found.double().mean())) < 2e-3


def test_the_pixels_stay_as_they_were() -> None:
    pixels_XHWC = pictures(1)
    patches(pixels_XHWC, torch.float32)
    assert torch.equal(pixels_XHWC, pictures(1))


def test_an_embedding_is_a_layer_and_two_places() -> None:
    torch.manual_seed(0)
    embedding, pixels_XHWC = PatchEmbedding(10, max_images=4), pictures()
    found = embedding(pixels_XHWC, torch.tensor([0, 3, 1]))
    assert found.shape == (3, 49, 10)
    square = pixels_XHWC[1, 32:64, 64:96].flatten().float() / 127.5 - 1
    expected = embedding.project.weight @ square + embedding.project.bias
    expected = expected + embedding.patch.weight[9] + embedding.image.weight[3]
    assert torch.allclose(found[1, 9], expected, atol=1e-5)
    assert float(torch.cat([embedding.patch.weight, embedding.image.weight]).detach().std()) == pytest.approx(
        0.02, rel=0.1
    )
    found.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in embedding.parameters())


def test_no_pictures_at_all_keep_every_parameter_in_the_graph() -> None:
    embedding = PatchEmbedding(10, max_images=4)
    found = embedding(pictures(0), torch.zeros(0, dtype=torch.int64))
    assert found.shape == (0, 49, 10)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in embedding.parameters())


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="48 x 48 pixels cannot be cut into patches of 32 x 32"):
        patches(pictures(1, 48), torch.float32)
    with pytest.raises(InputError, match="patches of 48 pixels do not fill pictures of 224"):
        PatchEmbedding(8, 2, patch_side=48)
    with pytest.raises(InputError, match=r"pictures of \(64, 64, 3\) do not fit an embedding of \(224, 224, 3\)"):
        PatchEmbedding(8, 2)(pictures(1, 64), torch.zeros(1, dtype=torch.int64))


def test_a_random_batch_is_the_same_beside_its_pixels() -> None:
    for summaries in (False, True):
        plain = random_batch(rows=5, source_summaries=summaries)
        more = random_batch(rows=5, source_summaries=summaries, picture_side=8)
        assert plain.pixels_BIHWC is None
        assert more.pixels_BIHWC is not None
        assert more.pixels_BIHWC.shape == (5, 3, 8, 8, 3)
        assert torch.equal(more.pixels_BIHWC.flatten(2).any(dim=2), more.image_mask_BI)
        for field in fields(plain):
            one, other = getattr(plain, field.name), getattr(more, field.name)
            assert field.name == "pixels_BIHWC" or one is other is None or torch.equal(one, other), field.name
    shared = same_target(more, 0, 3)
    assert shared.pixels_BIHWC is not None
    assert torch.equal(shared.pixels_BIHWC[3], more.pixels_BIHWC[0])
