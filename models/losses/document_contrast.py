"""Compute the cross-lingual contrast of documents: ACROSS, Eq. 5.

Shape suffixes as in shards/schema.py; N negatives: documents in the target language, encoded by the frozen model, so
that those that a queue holds of earlier steps are exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import widen


def document_contrast(
    source_BD: Tensor, parallel_BD: Tensor, negative_ND: Tensor, counts_BN: Tensor, temperature: float
) -> Tensor:
    """Return -log exp(sim(h_A, h_B+) / tau) / sum_i exp(sim(h_A, h_Bi) / tau), Eq. 5, sim the cosine: (B,) float32.

    source_BD: h_A.  parallel_BD: h_B+.  i runs over the row's own parallel document and the negatives that `counts_BN`
    (bool) gives it: 0 where there are none.
    """
    source_BD = F.normalize(widen(source_BD), dim=-1)
    own_B = (source_BD * F.normalize(widen(parallel_BD), dim=-1)).sum(dim=-1) / temperature
    score_BN = source_BD @ F.normalize(widen(negative_ND), dim=-1).T / temperature
    score_BN = score_BN.masked_fill(~counts_BN, -torch.inf)
    return torch.cat((own_B[:, None], score_BN), dim=1).logsumexp(dim=1) - own_B
