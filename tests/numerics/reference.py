"""The paper's equations as slow loops, one example at a time, without padding, masks or batching.

Nothing here imports the code under test. Parameters come as a mapping from name to tensor; the tests compute in
float64 and take gradients through these loops. T5's own parts follow Raffel et al. (2020), section 2.1, and
Shazeer (2020) for the gated feed-forward layer.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Params = Mapping[str, Tensor]


def softmax(x: Tensor) -> Tensor:
    e = torch.exp(x - x.max(dim=-1, keepdim=True).values)
    return e / e.sum(dim=-1, keepdim=True)


def linear(p: Params, name: str, x: Tensor) -> Tensor:
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float, bias=None) -> Tensor:
    """Heads side by side in the last dimension; bias (heads, queries, keys) is added to the scores."""
    width = query.shape[-1] // heads
    parts = []
    for head in range(heads):
        cut = slice(head * width, (head + 1) * width)
        score = query[:, cut] @ key[:, cut].T * scale
        if bias is not None:
            score = score + bias[head]
        parts.append(softmax(score) @ value[:, cut])
    return torch.cat(parts, dim=-1)


# --- mT5: encoder and decoder (section 2.2, Eq. 1) -------------------------------------------------------------


def rms_norm(p: Params, name: str, x: Tensor) -> Tensor:
    return p[f"{name}.weight"] * x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-6)


def bucket(distance: int, bidirectional: bool, buckets: int = 32, max_distance: int = 128) -> int:
    """Bucket of key position minus query position."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(0, -distance)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    ratio = math.log(distance / exact) / math.log(max_distance / exact)
    return first + min(buckets - 1, exact + int(ratio * (buckets - exact)))


def position_bias(p: Params, name: str, length: int, causal: bool) -> Tensor:
    table = p[f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    rows = []
    for q in range(length):
        row = [table[bucket(k - q, not causal)] for k in range(length)]
        rows.append(torch.stack(row))
    bias = torch.stack(rows).permute(2, 0, 1)
    if causal:
        future = torch.ones(length, length).triu(1).bool()
        bias = bias.masked_fill(future, -math.inf)
    return bias


def t5_attention(p: Params, name: str, x: Tensor, memory: Tensor, heads: int, bias=None) -> Tensor:
    q, k, v = (linear(p, f"{name}.{n}", y) for n, y in (("q", x), ("k", memory), ("v", memory)))
    return linear(p, f"{name}.o", attention(q, k, v, heads, 1.0, bias))


def t5_feed_forward(p: Params, name: str, x: Tensor) -> Tensor:
    a = linear(p, f"{name}.wi_0", x)
    gelu = 0.5 * a * (1 + torch.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
    return linear(p, f"{name}.wo", gelu * linear(p, f"{name}.wi_1", x))


def t5_stack(p: Params, name: str, ids: Tensor, layers: int, heads: int, memory: Tensor | None) -> Tensor:
    """H^{N_e} of `ids` where memory is None, else H_dec^{N_d} (Eq. 1) attending to `memory`."""
    h = p["backbone.model.shared.weight"][ids]
    bias = position_bias(p, name, len(ids), causal=memory is not None)
    for i in range(layers):
        layer = f"{name}.block.{i}.layer"
        normed = rms_norm(p, f"{layer}.0.layer_norm", h)
        h = h + t5_attention(p, f"{layer}.0.SelfAttention", normed, normed, heads, bias)
        last = 1
        if memory is not None:
            last = 2
            normed = rms_norm(p, f"{layer}.1.layer_norm", h)
            h = h + t5_attention(p, f"{layer}.1.EncDecAttention", normed, memory, heads)
        h = h + t5_feed_forward(p, f"{layer}.{last}.DenseReluDense", rms_norm(p, f"{layer}.{last}.layer_norm", h))
    return rms_norm(p, f"{name}.final_layer_norm", h)


def encode_text(p: Params, ids: Tensor, layers: int, heads: int) -> Tensor:
    return t5_stack(p, "backbone.model.encoder", ids, layers, heads, None)


def decode(p: Params, ids: Tensor, memory: Tensor, layers: int, heads: int) -> Tensor:
    return t5_stack(p, "backbone.model.decoder", ids, layers, heads, memory)


# --- visual encoder (section 2.2) ------------------------------------------------------------------------------


def embed_regions(p: Params, roi: Tensor, boxes: Tensor) -> Tensor:
    """v_ij = o_ij + E^box_ij + E^img_i + E^reg_j for real images only, flattened to (n * m, width)."""
    rows = []
    for i in range(roi.shape[0]):
        for j in range(roi.shape[1]):
            o = roi[i, j]
            if "vision.project.weight" in p:
                o = linear(p, "vision.project", o)
            box = linear(p, "vision.box", boxes[i, j])
            rows.append(o + box + p["vision.image.weight"][i] + p["vision.region.weight"][j])
    return torch.stack(rows)


def layer_norm(p: Params, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = torch.sqrt((centred * centred).mean(dim=-1, keepdim=True) + 1e-5)
    return centred / scale * p[f"{name}.weight"] + p[f"{name}.bias"]


def encode_vision(p: Params, v: Tensor, layers: int, heads: int) -> Tensor:
    """S = LN(SelfAttn(H) + H), H' = LN(FFN(S) + S)."""
    h = v
    width = v.shape[-1]
    for i in range(layers):
        name = f"vision.layers.layers.{i}"
        weight, bias = p[f"{name}.self_attn.in_proj_weight"], p[f"{name}.self_attn.in_proj_bias"]
        q, k, w = ((h @ weight.T + bias)[:, n * width : (n + 1) * width] for n in range(3))
        mixed = attention(q, k, w, heads, (width // heads) ** -0.5)
        s = layer_norm(p, f"{name}.norm1", h + linear(p, f"{name}.self_attn.out_proj", mixed))
        ffn = linear(p, f"{name}.linear2", linear(p, f"{name}.linear1", s).clamp(min=0))
        h = layer_norm(p, f"{name}.norm2", s + ffn)
    return h


# --- fusion (section 2.2) --------------------------------------------------------------------------------------


def cross_modal_attention(p: Params, text: Tensor, visual: Tensor | None, heads: int) -> Tensor:
    """M; zeros where there are no images."""
    query = linear(p, "fusion.query", text)
    if visual is None:
        return torch.zeros_like(query)
    key, value = linear(p, "fusion.key", visual), linear(p, "fusion.value", visual)
    return attention(query, key, value, heads, (query.shape[-1] // heads) ** -0.5)


def fuse(p: Params, text: Tensor, attended: Tensor) -> Tensor:
    """G, Z_V and Z_{T+V}."""
    gate = 1 / (1 + torch.exp(-linear(p, "fusion.gate", torch.cat((text, attended), dim=-1))))
    return linear(p, "fusion.output", torch.cat((text, gate * attended), dim=-1))


# --- losses ----------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Eqs. 2 and 4 a token: -sum_w q(w) log p(w), q the smoothed one-hot."""
    losses = []
    for z, y in zip(logits, target, strict=True):
        q = torch.full_like(z, smoothing / len(z))
        q[y] += 1 - smoothing
        losses.append(-(q * torch.log(softmax(z))).sum())
    return torch.stack(losses)


def distance(teaching: Tensor, learning: Tensor, kind: str) -> Tensor:
    """dist of Eqs. 5 and 7 a token; the teaching side gives no gradient."""
    out = []
    for t, s in zip(teaching.detach(), learning, strict=True):
        if kind == "cosine":
            out.append(1 - (t * s).sum() / torch.sqrt((t * t).sum() * (s * s).sum()))
        elif kind == "mse":
            out.append(((t - s) ** 2).sum() / len(t))
        else:
            p, q = softmax(t), softmax(s)
            out.append((p * (torch.log(p) - torch.log(q))).sum())
    return torch.stack(out) if out else learning.sum(dim=-1)


def alpha(t: int, t1: int) -> float:
    """Eq. 8."""
    share = 1 - t / t1
    return share if share > 0.5 else 0.5


def contrast(vision: list, summary: list, weight: list, group: list, story: list, tau: float) -> list:
    """Eq. 9 a row; vision[i] is None where row i has no image. None where row i is no anchor."""

    def sim(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum())

    losses = []
    for i in range(len(vision)):
        if vision[i] is None or not weight[i]:
            losses.append(None)
            continue
        own = torch.exp(sim(vision[i], summary[i]) / tau)
        total = own
        for b in range(len(vision)):
            if b != i and weight[b] and group[b] == group[i] and story[b] != story[i]:
                total = total + torch.exp(sim(vision[i], summary[b]) / tau)
        losses.append(-torch.log(own / total))
    return losses


# --- the whole objective, Eq. 10 and its parts -----------------------------------------------------------------


def objective(p: Params, rows: list[dict], setup: dict, flags: dict, step: int) -> dict:
    """Sums, counts and weights of the terms, plain nll a row and branch, and J.

    rows: dicts of unpadded tensors `source`, `target`, `summary`, `roi` (images, m, F), `boxes`, and `start`,
    `cross`, `weight`, `group`, `story`. setup: heads and layers. flags: as the objective's configuration.
    """
    terms: dict[str, list] = {}
    nll: dict[str, list] = {"mms": [], "mxls": []}
    pooled_vision, pooled_summary = [], []
    text = (setup["text_layers"], setup["text_heads"])

    def add(name: str, values: Tensor) -> None:
        terms.setdefault(name, []).extend(values)

    for row in rows:
        visual = None
        if setup["vision"] and len(row["roi"]):
            v = embed_regions(p, row["roi"], row["boxes"])
            visual = encode_vision(p, v, setup["vision_layers"], setup["vision_heads"])
        states = {}
        branches = [("mms", "target")] if flags["branches"] != "mxls" else []
        if row["cross"] and flags["branches"] != "mms":
            branches.append(("mxls", "source"))
        row_nll = {"mms": 0.0, "mxls": 0.0}
        for branch, document in branches if row["weight"] else []:
            memory = encode_text(p, row[document], *text)
            if setup["vision"]:
                memory = fuse(p, memory, cross_modal_attention(p, memory, visual, setup["fusion_heads"]))
            shifted = torch.cat((row["start"].reshape(1), row["summary"][:-1]))
            states[branch] = decode(p, shifted, memory, *text)
            logits = linear(p, "backbone.head", states[branch])
            add(branch, cross_entropy(logits, row["summary"], flags["label_smoothing"]))
            row_nll[branch] = float(cross_entropy(logits.detach(), row["summary"], 0.0).sum())
        for branch, value in row_nll.items():
            nll[branch].append(value)
        if len(states) == 2 and flags["distillation"] != "none":
            add("kd_teacher_to_student", distance(states["mms"], states["mxls"], flags["distance"]))
            if flags["distillation"] == "dual":
                add("kd_student_to_teacher", distance(states["mxls"], states["mms"], flags["distance"]))
        if flags["contrast"]:
            projected = None if visual is None else torch.stack([linear(p, "project", h) for h in visual])
            pooled_vision.append(None if projected is None else projected.mean(dim=0))
            pooled_summary.append(encode_text(p, row["summary"], *text).mean(dim=0))
    if flags["contrast"]:
        keys = ([row[k] for row in rows] for k in ("weight", "group", "story"))
        losses = contrast(pooled_vision, pooled_summary, *keys, flags["temperature"])
        terms["tco"] = [loss for loss in losses if loss is not None]

    a = alpha(step, flags["alpha_steps"])
    weights = {"mms": 1.0, "mxls": 1.0, "kd_teacher_to_student": a, "kd_student_to_teacher": 1 - a}
    weights["tco"] = flags["beta"]
    total = sum(weights[n] * sum(values) / len(values) for n, values in terms.items() if values)
    return {"terms": {n: (sum(v), len(v), weights[n]) for n, v in terms.items()}, "nll": nll, "J": total}
