"""Implement ACROSS (Li et al., 2023): a cross-lingual summarizer aligned with a frozen monolingual one.

    cls           cross-entropy of the summary, given the source document           Eq. 2
    consistency   JS divergence of the output distributions, token by token         Eq. 8
    contrast      source document against its parallel one, among 1,024 others      Eq. 5
    J             alpha cls + beta contrast + gamma consistency                     Eq. 9

The reference `mls` reads the document in the target language of every row and writes the same summary; the trained
network reads the source document. The paper draws the negatives of Eq. 5 from the data set: here they are a queue of
the documents of the last steps, as the reference has encoded them, so that they depend neither on ranks nor on
micro-steps. A row's negatives are in the language of its target, and tell other stories.

Shape suffixes as in models/ragged.py; N places of the queue, E the reference's width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.arranged import Arranged, same_tokens
from models.arrangement import Arrangement
from models.dropout import dropout
from models.losses import widen
from models.losses.consistency import cross_entropy_and_divergence
from models.losses.document_contrast import document_contrast
from models.network import Network, real_rows
from models.objectives.across_config import AcrossConfig
from models.objectives.base import Branch, Objective, Outputs, Term
from shards.batch.types import Batch
from shards.errors import InputError

#: One way to read any example: from its source document.
BRANCHES = (Branch(name="cls", kinds=frozenset({"mms", "mxls"})),)
#: In place of the story of an empty place of the queue.
_EMPTY = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parallel:
    """States of the reference, each where it is compared with."""

    hidden_TE: Tensor | None = None  # of its decoder, for each target token of the trained network
    document_BE: Tensor | None = None  # float32, mean of each row's document in the target language


class Across(Objective):
    """Compute the terms cls, consistency and contrast. Its own state is the queue of negatives."""

    queue_NE: Tensor
    queue_story_N: Tensor
    queue_language_N: Tensor
    queue_end: Tensor

    def __init__(self, config: AcrossConfig, network: Network, references: Mapping[str, Network]) -> None:
        """Build the objective. references: `mls`; empty where it is evaluated or exported."""
        super().__init__()
        self.config, self.network, self.references = config, network, references
        self.branches, self.has_state = BRANCHES, config.contrast
        mls = references.get("mls")
        if mls is not None and mls.vocab_size != network.vocab_size:
            raise InputError(
                f"references.mls writes {mls.vocab_size} words and the network {network.vocab_size}: choose a network "
                "of the same head"
            )
        if mls is not None and config.contrast and mls.hidden_size != network.hidden_size:
            raise InputError(
                f"objective.contrast compares states of references.mls ({mls.hidden_size} wide) with the network's "
                f"({network.hidden_size}): set network.text to its sizes, or objective.contrast to false"
            )
        if config.contrast:
            self.register_buffer("queue_NE", torch.zeros(config.negatives, network.hidden_size))
            self.register_buffer("queue_story_N", torch.full((config.negatives,), _EMPTY))
            self.register_buffer("queue_language_N", torch.full((config.negatives,), _EMPTY))
            self.register_buffer("queue_end", torch.zeros((), dtype=torch.int64))

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count target tokens for cls and consistency, rows for contrast."""
        real_B = batch.weight_B > 0
        tokens = float((batch.summary_mask_BN.sum(dim=1) * real_B).sum())
        counts = {"cls": tokens}
        if self.config.consistency:
            counts["consistency"] = tokens
        if self.config.contrast:
            counts["contrast"] = float(real_B.sum())
        return counts

    def flops(self, batch: Batch) -> int:
        """Count three forward passes of the trained network and one of what is asked of the frozen one."""
        trained, compared = self._arrange(batch)
        operations = self.network.flops(trained).training
        if compared is not None:
            frozen = self.references["mls"].flops(compared)
            operations += frozen.forward if self.config.consistency else frozen.texts
        return operations

    def _arrange(self, batch: Batch) -> tuple[Arrangement, Arrangement | None]:
        """Ask the trained network for the summaries of the source documents, the frozen one for what is compared."""
        rows = real_rows(batch)
        trained = self.network.arrangement(batch)
        trained.decode("cls", "source", rows)
        if not (self.config.consistency or self.config.contrast):
            return trained, None
        frozen = self.references["mls"].arrangement(batch)
        if self.config.consistency:
            frozen.decode("mls", "target", rows)
        if self.config.contrast:
            trained.encode("document", "source", rows)
            frozen.encode("document", "target", rows)
        return trained, frozen

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one pass of either network; `batch` is on the host."""
        config, network = self.config, self.network
        trained, compared = self._arrange(batch)
        on_host = trained.arranged()
        arranged = network.place(on_host)
        stream, states = arranged.main, network.states(batch, arranged)
        parallel = _Parallel() if compared is None else self._parallel(batch, on_host, compared)
        terms: dict[str, Term] = {}
        if parallel.hidden_TE is None:
            total, nll_T = network.token_loss(
                states.hidden_TD, stream.target_T, config.label_smoothing, stream.weight_T
            )
            terms["cls"] = Term(sum=total, count=counts["cls"], weight=config.alpha)
        else:
            head, frozen_head = network.backbone.head, self.references["mls"].backbone.head
            total, divergence, nll_T = cross_entropy_and_divergence(
                dropout(states.hidden_TD, network.backbone.output_dropout, self.training),
                (head.weight, head.bias),
                parallel.hidden_TE,
                (frozen_head.weight, frozen_head.bias),
                stream.target_T,
                config.label_smoothing,
                config.gamma / config.alpha,
                weight_T=stream.weight_T,
            )
            terms["cls"] = Term(sum=total, count=counts["cls"], weight=config.alpha)
            terms["consistency"] = Term(sum=divergence, count=counts["consistency"], weight=config.gamma)
        keep: dict[str, Tensor] = {}
        if parallel.document_BE is not None:
            source_BD = arranged.encoded["document"].means(states.texts_TD)
            terms["contrast"], keep = self._contrast(source_BD, parallel.document_BE, batch, counts["contrast"])
        return Outputs.of(arranged, terms, nll_T=nll_T, branches=self.branches, keep=keep)

    @torch.no_grad()
    def _parallel(self, batch: Batch, trained: Arranged, compared: Arrangement) -> "_Parallel":
        """Return what the reference computes. trained: what the network computes, on the host."""
        mls, on_host = self.references["mls"], compared.arranged()
        arranged = mls.place(on_host)
        if self.config.consistency:
            states = mls.states(batch, arranged)
            texts_TE = states.texts_TD
            token_T = same_tokens(trained.main, "cls", on_host.main, "mls").to(texts_TE.device, non_blocking=True)
            hidden_TE = states.hidden_TD.index_select(0, token_T)
        else:
            texts_TE, hidden_TE = mls.encode(arranged), None
        document_BE = widen(arranged.encoded["document"].means(texts_TE)) if self.config.contrast else None
        return _Parallel(hidden_TE=hidden_TE, document_BE=document_BE)

    def _contrast(
        self, source_BD: Tensor, parallel_BE: Tensor, batch: Batch, count: float
    ) -> tuple[Term, dict[str, Tensor]]:
        """Compute Eq. 5 for all rows, and what the queue is to receive."""
        device = source_BD.device
        story_B, language_B, weight_B = (
            x.to(device, non_blocking=True) for x in (batch.story_B, batch.target_language_B, batch.weight_B)
        )
        negative_BN = (
            (self.queue_story_N != _EMPTY)
            & (self.queue_story_N != story_B[:, None])
            & (self.queue_language_N == language_B[:, None])
        )
        loss_B = document_contrast(source_BD, parallel_BE, self.queue_NE, negative_BN, self.config.temperature)
        total = torch.where(weight_B > 0, loss_B, 0.0).sum()
        keep = {"document": parallel_BE, "story": story_B, "language": language_B}
        return Term(sum=total, count=count, weight=self.config.beta), keep

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        """Put the step's documents into the queue, each once, in place of the oldest."""
        seen: dict[tuple[int, int], int] = {}
        for row, key in enumerate(zip(kept["story"].tolist(), kept["language"].tolist(), strict=True)):
            seen.setdefault(key, row)
        rows = torch.tensor(
            list(seen.values())[-self.config.negatives :], dtype=torch.int64, device=self.queue_NE.device
        )
        place = (self.queue_end + torch.arange(len(rows), device=rows.device)) % self.config.negatives
        self.queue_NE[place] = kept["document"][rows]
        self.queue_story_N[place] = kept["story"][rows]
        self.queue_language_N[place] = kept["language"][rows]
        self.queue_end.add_(len(rows))
