"""AMID's equations as loops over rows, written from the paper (Chen et al., 2023). Plain torch, float64."""

import math

import reference
import torch
from torch import Tensor

Params = dict[str, Tensor]
SLOPE = 0.2


def extract(p: Params, row: dict, setup: dict, document: str) -> dict[str, Tensor]:
    """Return the mean states of a row's document and of its images."""
    text = reference.encode_text(p, row[document], setup["text_layers"], setup["text_heads"])
    regions = reference.encode_vision(
        p, reference.embed_regions(p, row["roi"], row["boxes"]), setup["vision_layers"], setup["vision_heads"]
    )
    return {"text": sum(text) / len(text), "image": sum(regions) / len(regions)}


def represent(p: Params, read: dict[str, Tensor], target: str) -> dict[str, Tensor]:
    """Return student, teacher and auxiliary, before any of them is compared."""
    other = "image" if target == "text" else "text"
    return {
        "student": reference.linear(p, "distillation.student", read[target]),
        "auxiliary": reference.linear(p, "distillation.auxiliary", read[other]),
        "teacher": perceptron(p, "distillation.teacher", torch.cat((read[target], read[other]))),
    }


def perceptron(p: Params, name: str, x: Tensor) -> Tensor:
    """Linear layers with LeakyReLU between, numbered as torch's Sequential numbers them."""
    places = sorted(int(key.split(".")[-2]) for key in p if key.startswith(f"{name}.") and key.endswith(".weight"))
    for place in places:
        x = reference.linear(p, f"{name}.{place}", x)
        if place != places[-1]:
            x = torch.where(x > 0, x, SLOPE * x)
    return x


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (torch.sqrt((a * a).sum()) * torch.sqrt((b * b).sum()))


def h(teacher: Tensor, others: list[Tensor], u: int, tau: float) -> Tensor:
    """Eq. 7."""
    exponentials = [torch.exp(cosine(teacher, other) / tau) for other in others]
    return exponentials[u] / sum(exponentials)


def mutual_information(teacher: list[Tensor], other: list[Tensor], classes: list[int], tau: float, bound: str):
    """Eq. 8 (or 9) over one group, before the division by N + k."""
    total = torch.zeros(()).double()
    for i in range(len(teacher)):
        for u in range(len(other)):
            share = h(teacher[i], other, u, tau)
            if classes[u] == classes[i]:
                total = total - torch.log(share)
            elif bound == "mi":
                total = total - torch.log(1 - share)
    return total


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Eq. 16 a row, of logits."""
    p, q = reference.softmax(student), reference.softmax(teacher)
    total = torch.zeros(()).double()
    for a, b in zip(p, q, strict=True):
        middle = (a + b) / 2
        total = total + (a * torch.log(a / middle) + b * torch.log(b / middle)) / 2
    return total


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def frozen(p: Params) -> Params:
    return {name: value.detach() for name, value in p.items()}


def objective(p: Params, rows: list[dict], setup: dict, flags: dict, lambdas: tuple[float, float]) -> dict:
    """Sums and counts of the terms. rows: those that take part, with `class` and `group`."""
    said = [represent(p, extract(p, row, setup, "target"), flags["target"]) for row in rows]
    sums = dict.fromkeys(("student", "teacher", "divergence"), torch.zeros(()).double())
    for of, row in zip(said, rows, strict=True):
        logits = {side: reference.linear(p, "classify", of[side]) for side in ("student", "teacher")}
        for side, of_side in logits.items():
            sums[side] = sums[side] - torch.log(reference.softmax(of_side)[row["class"]])
        sums["divergence"] = sums["divergence"] + divergence(logits["student"], logits["teacher"])
    return {name: (total, len(rows)) for name, total in sums.items()} | distilled(p, said, rows, flags, lambdas)


def distilled(
    p: Params, said: list[dict[str, Tensor]], rows: list[dict], flags: dict, lambdas: tuple[float, float]
) -> dict:
    """Sums and counts of Eqs. 8, 9, 12 and 13."""
    names = ["mi_student", "mi_auxiliary"]
    names += [f"{what}_{which}" for what in ("adversarial", "discriminator") for which in ("fundamental", "enhanced")]
    sums, mated = dict.fromkeys(names, torch.zeros(()).double()), 0
    for group in sorted({row["group"] for row in rows}):
        members = [i for i, row in enumerate(rows) if row["group"] == group]
        classes = [rows[i]["class"] for i in members]
        teacher = [said[i]["teacher"] for i in members]
        for name, side in (("mi_student", "student"), ("mi_auxiliary", "auxiliary")):
            other = [said[i][side] for i in members]
            sums[name] = sums[name] + mutual_information(teacher, other, classes, flags["temperature"], flags["bound"])
        pairs = {"fundamental": [(i, i) for i in members], "enhanced": []}
        for i in members:
            alike = [j for j in members if rows[j]["class"] == rows[i]["class"]]
            if len(alike) > 1:
                pairs["enhanced"].append((i, alike[(alike.index(i) + 1) % len(alike)]))
        mated += len(pairs["enhanced"])
        for (which, of), factor in zip(pairs.items(), lambdas, strict=True):
            name = f"distillation.adversary.discriminators.{which}"
            for i, j in of:
                real, imitated = said[i]["teacher"].detach(), said[j]["student"]
                fooled = sigmoid(perceptron(frozen(p), name, imitated)[0])
                sums[f"adversarial_{which}"] = sums[f"adversarial_{which}"] - factor * torch.log(fooled)
                judged = torch.log(sigmoid(perceptron(p, name, real)[0]))
                judged = judged + torch.log(1 - sigmoid(perceptron(p, name, imitated.detach())[0]))
                sums[f"discriminator_{which}"] = sums[f"discriminator_{which}"] - factor * judged
    return {name: (sums[name], mated if name.endswith("enhanced") else len(rows)) for name in names}


def summaries(p: Params, rows: list[dict], setup: dict, flags: dict, lambdas: tuple[float, float]) -> dict:
    """Sums and counts of the summarizer's terms. rows: all that are no placeholders; those with images are compared."""
    text = (setup["text_layers"], setup["text_heads"])
    sums, tokens = dict.fromkeys(("student", "divergence", "teacher"), torch.zeros(()).double()), 0
    said, shown = [], []
    for row in rows:
        document = reference.encode_text(p, row["source"], *text)
        visual = None
        if len(row["roi"]):
            v = reference.embed_regions(p, row["roi"], row["boxes"])
            visual = reference.encode_vision(p, v, setup["vision_layers"], setup["vision_heads"])
        seen = reference.cross_modal_attention(p, document, visual, setup["fusion_heads"])
        memories = {"student": document, "teacher": reference.fuse(p, document, seen)}
        shifted = torch.cat((row["start"].reshape(1), row["summary"][:-1]))
        logits = {}
        for side, memory in memories.items():
            logits[side] = reference.linear(p, "backbone.head", reference.decode(p, shifted, memory, *text))
            losses = reference.cross_entropy(logits[side], row["summary"], flags["label_smoothing"])
            sums[side] = sums[side] + sum(losses)
        for student, teacher in zip(logits["student"], logits["teacher"].detach(), strict=True):
            sums["divergence"] = sums["divergence"] + divergence(student, teacher)
        tokens += len(row["summary"])
        if len(row["roi"]):
            said.append(represent(p, extract(p, row, setup, "source"), "text"))
            shown.append({**row, "class": row["story"]})
    return {name: (total, tokens) for name, total in sums.items()} | distilled(p, said, shown, flags, lambdas)


def next_weights(smoothed: list[float], similarity: tuple, beta: float) -> tuple[list[float], list[float]]:
    """Eq. 14: the smoothed values of the next epoch, and both weights. similarity: None where nothing was compared."""
    smoothed = [
        old if mean is None else beta * old + (1 - beta) * (1 - mean)
        for old, mean in zip(smoothed, similarity, strict=True)
    ]
    exponentials = [math.exp(value) for value in smoothed]
    return smoothed, [value / sum(exponentials) for value in exponentials]
