"""mBART-50's texts begin with their language: summaries, too, where Eq. 9 reads them."""

import torch

from models.arrangement import Arrangement
from models.config import TextConfig
from models.network import Network
from models.objectives.d2tv import D2TV, D2TVConfig
from models.synthetic import random_batch, tiny_config
from tests.support.objectives import outputs_of

MBART = TextConfig(architecture="mbart", d_model=16, d_ff=24, num_heads=4, num_layers=2, max_position_embeddings=20)


def test_a_step_of_d2tv() -> None:
    """Summaries that are read as texts begin with their language, as documents do; summaries to be written do not."""
    torch.manual_seed(0)
    config = tiny_config().model_copy(update={"text": MBART})
    objective = D2TV(D2TVConfig(), Network(config, 50, 0, 1, marks_texts=True)).eval()
    batch = random_batch(rows=4, vocab_size=50)
    arrangement = Arrangement(batch, marked=True)
    arrangement.decode("mms", "target", range(4))
    arrangement.encode("summary", "summary", range(4))
    arranged = arrangement.arranged()
    begin = arranged.document_tokens
    for row, tokens in enumerate(batch.summary_mask_BN.sum(dim=1).tolist()):
        ids = arranged.ids_T[begin : begin + 1 + tokens].tolist()
        assert ids == [int(batch.start_B[row]), *batch.summary_ids_BN[row, :tokens].tolist()]
        begin += len(ids)
    assert begin == len(arranged.ids_T)

    marked = outputs_of(objective, batch, 1).terms
    sum(term.weight * term.sum for term in marked.values()).backward()
    assert [name for name, parameter in objective.named_parameters() if parameter.grad is None] == []
    objective.network.marks_texts = False
    plain = outputs_of(objective, batch, 1).terms
    torch.testing.assert_close(marked["mms"].sum, plain["mms"].sum)
    assert abs((marked["tco"].sum - plain["tco"].sum).item()) > 1e-6
