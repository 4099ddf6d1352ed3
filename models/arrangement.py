"""Arrange what an objective asks of a network, without padding and without computing anything twice.

Rows of a batch share: a summary is decoded once for all rows that have it and what it is written from, an article is
encoded once whether it is read as source, as target or as both, and an image sequence once for all that look at it. A
text's weight says for how many rows it stands, so sums over the batch stay what they were. All of it is decided on the
host, from lengths.

Shape suffixes as in models/arranged.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch

from models.arranged import MAIN, Arranged, Decoded, DecoderStream, encoded, flat, ranges
from models.joint import Input, Visual, lay_out, size
from models.numbering import SUMMARIES, Decode, Encode, Hidden, Numbering, Read, Stream, Work
from models.ragged import averaging, cross_layout, self_layout
from models.shapes import VisualForm
from models.sharing import Rows, Text
from shards.arrays import Ints
from shards.batch.types import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Lengths of what a micro-batch computes, each thing once; rows that run and count nothing are left out."""

    images: list[int]  # an image sequence
    embedded: dict[str, int]  # images that the encoder reads as regions, and as patches
    documents: list[int]  # tokens of a document that a summary is written from, with those of its images where joint
    texts: list[int]  # tokens of what else is encoded
    memories: list[tuple[int, int]]  # (tokens of the document, images)
    decoded: list[tuple[int, int]]  # (tokens or regions that are read, tokens that are written)


class Arrangement:
    """Collect, by name, the texts to encode and the summaries to decode of one micro-batch on the host.

        arrangement = Arrangement(batch)
        arrangement.decode("mms", "target", rows)
        arrangement.encode("summary", "summary", rows)
        arranged = network.place(arrangement.arranged())

    What is asked for without rows runs on some row and counts nothing, so that every parameter takes part in every
    step. Ask for the same names in every micro-batch.
    """

    def __init__(
        self,
        batch: Batch,
        *,
        share: bool = True,
        marked: bool = False,
        joint: VisualForm | None = None,
        forms: Mapping[int, VisualForm] = MappingProxyType({}),
        tagged: bool = False,
    ) -> None:
        """Begin with nothing. share False: compute every row on its own.

        marked: a text begins with its language's token (mBART-50), as documents already do: put it before summaries
        that are encoded. tagged: put it before whatever is encoded and has none. joint: the encoder reads the images
        with a document, as these visual tokens.  forms: for some rows as others, whatever text they are read with.
        """
        assert batch.cross_B.device.type == "cpu", "arrange a batch before it is moved"
        self._rows = Rows(batch, share)
        self._tagged: frozenset[Text] = frozenset(SUMMARIES) if marked or tagged else frozenset()
        if tagged and not marked:
            self._tagged |= {"source", "target"}
        self._joint, self._forms = joint, forms
        self._images = False
        self._encodes: dict[str, Encode] = {}
        self._decodes: dict[str, Decode] = {}

    def images(self) -> None:
        """Ask for the states of each image sequence by itself, which an encoder of texts alone has anyway."""
        self._images = True

    def encode(
        self,
        name: str,
        text: Text | Sequence[Text],
        rows: Sequence[int],
        *,
        of: Sequence[int] | None = None,
        images: Sequence[int] | None = None,
    ) -> None:
        """Ask for the encoder's states of a text of each row. A document that is decoded from is not encoded again.

        text: one for all rows, or one for each.  of: for each row the one whose text it is, by default itself.
        images: for each row the one whose images are read with the text, where the encoder reads both.
        """
        assert images is None or self._joint is not None, "a network of late fusion encodes texts alone"
        texts: Sequence[Text] = [text] * len(rows) if isinstance(text, str) else text
        self._encodes[name] = Encode(texts=texts, rows=rows, of=rows if of is None else of, images=images)

    def decode(
        self,
        name: str,
        read: Text | Literal["images"],
        rows: Sequence[int],
        *,
        beside: str | None = None,
        writes: Text = "summary",
        decoder: str = MAIN,
        seen: bool = False,
        hidden: Hidden | None = None,
    ) -> None:
        """Ask for the decoder's states of each row's summary.

        read: what it is written from: an article with the row's images, a summary without, or the images alone.
        beside: an earlier part of the same decoder that has the rows, too: `Decoded.beside_T` finds its tokens.
        decoder: which one writes; each has a stream of its own.
        seen: a summary is read with the row's images, too.  hidden: places of the text where the encoder reads [MASK].
        """
        assert hidden is None or self._joint is not None, "a network of late fusion has no [MASK]"
        self._decodes[name] = Decode(
            read=read, rows=rows, beside=beside, writes=writes, decoder=decoder, seen=seen, hidden=hidden
        )

    def lengths(self) -> Lengths:
        """Return the lengths of what is asked for, from which its operations are counted (models/flops.py)."""
        rows, work = self._rows, self._numbered(spare=False)
        inputs = [self._input(read) for read in work.inputs]
        sizes = self._sizes(inputs)
        visual = None if self._joint is None else Visual(rows.sequence_images, inputs)
        read = _sizes_of_memories(work, rows, sizes)
        return Lengths(
            images=[rows.shown[sequence] for sequence in set(rows.sequence_B[rows.real].tolist()) - {-1}],
            embedded={} if visual is None else {kind: len(of) for kind, of in visual.images.items()},
            documents=sizes[: work.documents],
            texts=sizes[work.documents :],
            memories=[
                (sizes[document], rows.shown[sequence] if sequence >= 0 else 0)
                for document, sequence in work.memories.first
                if document >= 0
            ],
            decoded=[
                (read[memory], len(rows.ids(text, row)))
                for stream in work.streams.values()
                for text, row, memory in stream.texts.first
            ],
        )

    def arranged(self) -> Arranged:
        """Return the streams, on the host."""
        rows, work = self._rows, self._numbered(spare=True)
        inputs = [self._input(read) for read in work.inputs]
        sizes = self._sizes(inputs)
        # Memories of a document come before those of images alone.
        order = sorted(range(len(work.memories.first)), key=lambda memory: work.memories.first[memory][0] < 0)
        position = np.argsort(order)
        memories = [work.memories.first[memory] for memory in order]
        fused = [(document, sequence) for document, sequence in memories if document >= 0]
        document_of = np.array([document for document, _ in fused], np.int64)
        in_order = document_of.tolist() == list(range(work.documents))
        seen = [sequence >= 0 for _, sequence in fused]
        # Without any image there is one sequence all the same, looked at by one text and hidden from it afterwards.
        looking = [sequence for _, sequence in fused] if any(seen) else [0] + [-1] * (len(fused) - 1)
        memory_sizes = _sizes_of_memories(work, rows, sizes)
        fused_sizes = [sizes[document] for document in document_of]
        alone = np.array([max(sequence, 0) for document, sequence in memories if document < 0], np.int64)
        layout = self_layout(sizes, causal=False)
        decoders = {
            name: self._stream(name, stream, work, position, [memory_sizes[memory] for memory in order])
            for name, stream in work.streams.items()
        }
        own = [layout, *(stream.layout for stream in decoders.values())]
        return Arranged(
            ids_T=flat([one.ids for one in inputs if one.ids is not None]),
            texts=layout,
            encoded={name: encoded(text_B, sizes) for name, text_B in work.encoded.items()},
            image_X=torch.from_numpy(rows.image_X),
            place_X=torch.from_numpy(rows.place_X),
            images=self_layout(rows.sequence_sizes, causal=False),
            pool_images=averaging(
                rows.sequence_sizes
                if self._joint is None
                else [images * self._joint.tokens for images in rows.sequence_images]
            ),
            sequence_B=torch.from_numpy(np.maximum(rows.sequence_B, 0)),
            document_tokens=sum(sizes[: work.documents]),
            memory_T=None if in_order else torch.from_numpy(ranges(document_of, np.array(sizes))),
            fusion=cross_layout(fused_sizes, looking, rows.sequence_sizes) if fused and self._joint is None else None,
            seen_T1=torch.from_numpy(np.repeat(np.array(seen, bool), fused_sizes))[:, None],
            alone_S=torch.from_numpy(ranges(alone, np.array(rows.sequence_sizes))) if len(alone) else None,
            decoders=decoders,
            real_tokens=sum(int(x.queries.place_T.numel()) for x in own),
            computed_tokens=sum(x.queries.rows * x.queries.length for x in own),
            joint=None if self._joint is None else lay_out(inputs, rows.sequence_images),
        )

    def _input(self, read: Read) -> Input:
        """Return an input of the encoder as it is laid out."""
        if read.text is None:
            return Input(ids=None, sequence=read.sequence, form=read.form)
        ids, hidden = self._rows.ids(read.text, read.row), read.hidden
        if read.text in self._tagged:
            ids = np.r_[self._rows.start(read.text, read.row), ids]
            hidden = None if hidden is None else hidden + 1
        return Input(ids=ids, sequence=read.sequence, form=read.form, hidden=hidden)

    def _sizes(self, inputs: Sequence[Input]) -> list[int]:
        """Return the tokens of each input of the encoder."""
        if self._joint is not None:
            return [size(one, self._rows.sequence_images) for one in inputs]
        return [0 if one.ids is None else len(one.ids) for one in inputs]

    def _stream(
        self, decoder: str, stream: Stream, work: Work, position: Ints, memory_sizes: list[int]
    ) -> DecoderStream:
        rows = self._rows
        targets = [rows.ids(text, row) for text, row, _ in stream.texts.first]
        memory_of = position[[memory for _, _, memory in stream.texts.first]]
        sizes = np.array([len(ids) for ids in targets])
        ends = np.cumsum(sizes)
        parts = {}
        for name in (name for name, request in self._decodes.items() if request.decoder == decoder):
            text_B, (first, after) = work.decoded[name], work.parts[name]
            beside = stream.beside.get(name)
            parts[name] = Decoded(
                begin=int(ends[first] - sizes[first]),
                end=int(ends[after - 1]),
                text_B=torch.from_numpy(text_B),
                memory_B=torch.from_numpy(np.where(text_B >= 0, memory_of[np.maximum(text_B, 0)], -1)),
                beside_T=None if beside is None else torch.from_numpy(ranges(np.array(beside), sizes)),
            )
        return DecoderStream(
            ids_T=flat(
                [
                    np.r_[rows.start(text, row), ids[:-1]]
                    for (text, row, _), ids in zip(stream.texts.first, targets, strict=True)
                ]
            ),
            target_T=flat(targets),
            layout=self_layout(sizes.tolist(), causal=True),
            cross=cross_layout(sizes.tolist(), memory_of.tolist(), memory_sizes),
            weight_T=torch.from_numpy(np.repeat(np.array(stream.weights, np.float32), sizes)),
            text_T=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            texts=len(sizes),
            parts=parts,
        )

    def _numbered(self, *, spare: bool) -> Work:
        numbering = Numbering(self._rows, self._joint, self._forms)
        return numbering.of(self._decodes, self._encodes, images=self._images, spare=spare)


def _sizes_of_memories(work: Work, rows: Rows, sizes: Sequence[int]) -> list[int]:
    return [
        sizes[document] if document >= 0 else rows.sequence_sizes[max(sequence, 0)]
        for document, sequence in work.memories.first
    ]
