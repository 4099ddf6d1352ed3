"""ACROSS as its paper has it, an example at a time: Eqs. 2, 5, 8 and 9. Imports nothing of the code that it judges."""

import torch
from reference import (
    cross_entropy,
    cross_modal_attention,
    decode,
    embed_regions,
    encode_text,
    encode_vision,
    fuse,
    linear,
    softmax,
)
from torch import Tensor

Params = dict[str, Tensor]


def states(p: Params, document: Tensor, row: dict, setup: dict) -> tuple[Tensor, Tensor]:
    """Encoder states of a document, and decoder states of the row's summary given it and the row's images."""
    text = (setup["text_layers"], setup["text_heads"])
    encoded = encode_text(p, document, *text)
    visual = None
    if len(row["roi"]):
        visual = encode_vision(
            p, embed_regions(p, row["roi"], row["boxes"]), setup["vision_layers"], setup["vision_heads"]
        )
    memory = fuse(p, encoded, cross_modal_attention(p, encoded, visual, setup["fusion_heads"]))
    shifted = torch.cat((row["start"].reshape(1), row["summary"][:-1]))
    return encoded, decode(p, shifted, memory, *text)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Eq. 8 at one place: the Jensen-Shannon divergence of two distributions."""
    m = (p + q) / 2
    return (p * torch.log(p / m)).sum() / 2 + (q * torch.log(q / m)).sum() / 2


def contrast(source: Tensor, parallel: Tensor, negatives: list[Tensor], tau: float) -> Tensor:
    """Eq. 5 of one document."""

    def near(other: Tensor) -> Tensor:
        return torch.exp((source * other).sum() / torch.sqrt((source * source).sum() * (other * other).sum()) / tau)

    own = near(parallel)
    return -torch.log(own / (own + sum(near(other) for other in negatives)))


def objective(p: Params, mls: Params, rows: list[dict], setup: dict, flags: dict, queue: list[dict]) -> dict:
    """Sums and counts of the terms, the reference's pooled documents, and J of Eq. 9.

    queue: dicts `state`, `story`, `language` of earlier documents. rows: as `reference.objective` takes them, with
    `language`, that of the target.
    """
    cls, consistency, contrasts, documents = [], [], [], []
    for row in rows:
        if not row["weight"]:
            documents.append(None)
            continue
        encoded, ours = states(p, row["source"], row, setup)
        with torch.no_grad():
            parallel, theirs = states(mls, row["target"], row, setup)
        logits, frozen = linear(p, "backbone.head", ours), linear(mls, "backbone.head", theirs).detach()
        cls.extend(cross_entropy(logits, row["summary"], flags["label_smoothing"]))
        consistency.extend(divergence(softmax(z), softmax(y)) for z, y in zip(logits, frozen, strict=True))
        others = [one["state"] for one in queue if one["story"] != row["story"] and one["language"] == row["language"]]
        documents.append(parallel.mean(dim=0))
        contrasts.append(contrast(encoded.mean(dim=0), documents[-1], others, flags["temperature"]))
    terms = {"cls": cls, "consistency": consistency, "contrast": contrasts}
    weights = {"cls": flags["alpha"], "consistency": flags["gamma"], "contrast": flags["beta"]}
    total = sum(weights[name] * sum(values) / len(values) for name, values in terms.items())
    return {
        "terms": {name: (sum(values), len(values)) for name, values in terms.items()},
        "documents": documents,
        "J": total,
    }
