"""A loop over directions that calls `transformers`' generate a batch at a time: the peer of `benchmarks.decode`.

What one writes first: the network of benchmarks/plain_d2tv.py, of which nothing is ours, as transformers' mT5. A batch
holds examples of one direction, so all its rows begin with one start token; it encodes its own documents and images,
padded to the longest of the batch, and hands them to generate, which does the rest.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, MT5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.plain_d2tv import PlainD2TV
from models.config import Decoding, NetworkConfig
from models.network import Network
from shards.arrays import Ints
from shards.batch.types import Batch
from shards.format.index import Corpus
from shards.stream.sampler import Groups


def batches_by_direction(groups: Groups, corpus: Corpus, size: int) -> Iterator[Ints]:
    """Places in `groups` (of one example each), a direction after the other, at most `size` a batch."""
    language = corpus.articles["language"].astype(np.int64)
    direction = language[groups.target[:, 0]] * len(corpus.languages) + language[groups.source[:, 0]]
    for number in np.unique(direction):
        places = np.flatnonzero(direction == number)
        yield from np.split(places, range(size, len(places), size))


class PlainDecoder:
    """The weights of `network`, in modules of transformers' and torch's own."""

    def __init__(self, config: NetworkConfig, network: Network) -> None:
        self._plain = PlainD2TV(config, network.vocab_size, pad_id=network.pad_id).eval()
        ours = {f"network.{name}": value for name, value in network.state_dict().items()}
        # The contrast's projection is the objective's, and no summary asks for it.
        ours |= {f"project.{name}": value for name, value in self._plain.mlp.state_dict().items()}
        self._plain.load_parameters(ours)
        mt5 = self._plain.mt5
        settings = copy.deepcopy(mt5.config)
        settings.num_layers = settings.num_decoder_layers  # by which generate sizes the decoder's cache
        with torch.device("meta"):
            self._model = MT5ForConditionalGeneration(settings)
        self._model.shared, self._model.encoder, self._model.decoder = mt5.shared, mt5.encoder, mt5.decoder
        self._model.lm_head = self._plain.head
        self._model.generation_config = GenerationConfig()
        self._model.eval()
        self._eos_id = network.eos_id

    @torch.no_grad()
    def generate(self, batch: Batch, decoding: Decoding) -> Tensor:
        """(B, N) int64, without the start token. All rows have the target language of the first."""
        visual_BKV, visual_mask_BK = self._plain.see(batch)
        document_BMD = self._plain.encode(batch.source_ids_BM, batch.source_mask_BM)
        written_BN: Tensor = self._model.generate(
            encoder_outputs=BaseModelOutput(
                last_hidden_state=self._plain.fusion(document_BMD, visual_BKV, visual_mask_BK)
            ),
            attention_mask=batch.source_mask_BM.long(),
            generation_config=GenerationConfig(
                num_beams=decoding.num_beams,
                length_penalty=decoding.length_penalty,
                max_new_tokens=decoding.max_new_tokens,
                do_sample=False,
                pad_token_id=self._plain.pad_id,
                eos_token_id=self._eos_id,
                decoder_start_token_id=int(batch.start_B[0]),
            ),
        )
        return written_BN[:, 1:]
