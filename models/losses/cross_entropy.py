"""Compute the cross-entropy of target tokens, Eqs. 2 and 4, with label smoothing (Table 5: 0.1).

Shape suffixes as in shards/schema.py; T selected target tokens.
"""

from torch import Tensor

from models.losses import widen


def smoothed_cross_entropy(logits_TW: Tensor, target_T: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Return per token in nats, both (T,) float32: the smoothed loss, and the plain -log p(y_t | ...) (Eqs. 2, 4).

    The smoothed target is (1 - e) on the word plus e / W on every word, so with lse = logsumexp(z) the loss is
    lse - (1 - e) z_y - e mean(z): no (T, W) tensor of log-probabilities. target_T holds real tokens only.
    """
    logits_TW = widen(logits_TW)
    lse_T = logits_TW.logsumexp(dim=-1)
    picked_T = logits_TW.gather(-1, target_T[:, None]).squeeze(-1)
    nll_T = lse_T - picked_T
    if label_smoothing == 0.0:
        return nll_T, nll_T
    loss_T = lse_T - (1 - label_smoothing) * picked_T - label_smoothing * logits_TW.mean(dim=-1)
    return loss_T, nll_T
