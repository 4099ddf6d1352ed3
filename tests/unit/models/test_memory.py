"""Generation that reads documents where they lie, against transformers' own cross-attention on a copy a row."""

import pytest
import torch
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from models.backbones.build import build_backbone
from models.backbones.memory import Memory
from models.config import TextConfig

WORDS, PAD_ID, EOS_ID = 40, 0, 1
#: Which memory a row reads: not in order, and not as often.
OWNERS = (1, 2, 2, 0, 2)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("architecture", ["mt5", "mbart"])
@torch.no_grad()
def test_same_texts_as_with_a_copy_a_row(architecture: str, beams: int) -> None:
    torch.manual_seed(2)
    sizes = {"d_model": 16, "d_ff": 24, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 2, "dropout": 0.0}
    own = {"d_kv": 8} if architecture == "mt5" else {"architecture": "mbart"}
    backbone = build_backbone(TextConfig.model_validate(sizes | own), WORDS, PAD_ID, EOS_ID).eval()
    for parameter in backbone.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    states_KMD = torch.randn(3, 7, 16)
    real_KM = torch.arange(7) < torch.tensor([7, 2, 5])[:, None]
    owners = torch.tensor(OWNERS)
    settings = GenerationConfig(
        num_beams=beams,
        max_new_tokens=9,
        do_sample=False,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=[30, 31, 32, 33, 34],
    )
    expected_BN = backbone.generator().generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=states_KMD[owners]),
        attention_mask=real_KM[owners].long(),
        generation_config=settings,
    )
    memory = Memory.of(states_KMD, real_KM, OWNERS, beams)
    found_BN = backbone.generator(memory).generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=torch.zeros(5, 1, 16)),
        attention_mask=torch.ones(5, 1, dtype=torch.int64),
        generation_config=settings,
    )
    assert torch.equal(found_BN, expected_BN)
    assert len({tuple(row.tolist()) for row in found_BN[:, 1:]}) == 5
