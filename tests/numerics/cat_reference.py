"""CAT an example at a time: vision to summary and masked regions. Imports nothing of the code that it judges."""

import torch
from reference import attention, cross_entropy, decode, embed_regions, encode_text, encode_vision, linear, softmax
from torch import Tensor

Params = dict[str, Tensor]


def classes(region: Tensor, directions: Tensor) -> Tensor:
    """Classes of a region's features, normalised to mean 0 and variance 1."""
    centred = region - region.mean()
    normed = centred / torch.sqrt((centred * centred).mean() + 1e-5)
    return softmax((normed @ directions) / 0.5)


def objective(
    p: Params, rows: list[dict], hidden: list[list[int]], setup: dict, flags: dict, directions: Tensor
) -> dict:
    """Sums and counts of the terms v2s and mim.

    rows: as `reference.objective` takes them. hidden: the masked regions of each row, counted over its images.
    """
    v2s, mim = [], []
    text, vision = (setup["text_layers"], setup["text_heads"]), (setup["vision_layers"], setup["vision_heads"])
    for row, masked in zip(rows, hidden, strict=True):
        if not row["weight"] or not len(row["roi"]):
            continue
        visual = encode_vision(p, embed_regions(p, row["roi"], row["boxes"]), *vision)
        shifted = torch.cat((row["start"].reshape(1), row["summary"][:-1]))
        states = decode(p, shifted, linear(p, "see", visual), *text)
        v2s.extend(cross_entropy(linear(p, "backbone.head", states), row["summary"], flags["label_smoothing"]))

        regions = row["roi"].flatten(0, 1)
        without = regions.clone()
        without[masked] = 0.0
        visual = encode_vision(p, embed_regions(p, without.view_as(row["roi"]), row["boxes"]), *vision)
        summary = encode_text(p, row["summary"], *text)
        query, key, value = (
            linear(p, f"reader.{name}", x) for name, x in (("query", visual), ("key", summary), ("value", summary))
        )
        read = attention(query, key, value, setup["fusion_heads"], (query.shape[-1] // setup["fusion_heads"]) ** -0.5)
        for region in masked:
            predicted = softmax(linear(p, "reader.classify", torch.cat((visual[region], read[region]))))
            own = classes(regions[region], directions)
            mim.append((own * torch.log(own / predicted)).sum())
    return {"v2s": (sum(v2s), len(v2s)), "mim": (sum(mim), len(mim))}
