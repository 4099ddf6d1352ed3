"""Number the texts, memories and summaries that a micro-batch computes, each distinct one once.

Shape suffixes as in models/arranged.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from models.shapes import VisualForm
from models.sharing import Distinct, Rows, Text
from shards.arrays import Ints

#: Texts that are no articles: no images belong to them unless they are asked for.
SUMMARIES: tuple[Text, ...] = ("summary", "source_summary")
#: Places of a row's text, by row, where the encoder reads [MASK].
Hidden = Mapping[int, Ints]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encode:
    """A request for the encoder's states, as of `Arrangement.encode`."""

    texts: Sequence[Text]
    rows: Sequence[int]
    of: Sequence[int]
    images: Sequence[int] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decode:
    """A request for the decoder's states, as of `Arrangement.decode`."""

    read: Text | Literal["images"]
    rows: Sequence[int]
    beside: str | None
    writes: Text
    decoder: str
    seen: bool
    hidden: Hidden | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """One input of the encoder, by the row where it first appears: a text (None: images alone) and its images."""

    text: Text | None
    row: int
    sequence: int = -1  # of the images; -1: none
    form: VisualForm | None = None  # in which they are read
    hidden: Ints | None = None


@dataclass(kw_only=True, slots=True)
class Stream:
    """Summaries that one decoder writes."""

    texts: Distinct = field(default_factory=Distinct)  # (text, row, memory)
    weights: list[float] = field(default_factory=list)
    beside: dict[str, list[int]] = field(default_factory=dict)  # part -> the other part's summary of each of its own


@dataclass(kw_only=True, slots=True)
class Work:
    """Distinct inputs of the encoder, memories and summaries."""

    reads: Distinct = field(default_factory=Distinct)  # `Read`; those of memories first
    documents: int = 0  # of them, those of memories
    memories: Distinct = field(default_factory=Distinct)  # (number of the read or -1, image sequence or -1)
    streams: dict[str, Stream] = field(default_factory=dict)
    decoded: dict[str, Ints] = field(default_factory=dict)  # part -> summary of a row, -1 for none
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)  # part -> its summaries in the stream, from and to
    encoded: dict[str, Ints] = field(default_factory=dict)  # part -> read of a row, -1 for none

    @property
    def inputs(self) -> Iterator[Read]:
        """Return the encoder's inputs in their order."""
        return iter(self.reads.first)


class Numbering:
    """Numbers what is asked for of some rows."""

    def __init__(self, rows: Rows, joint: VisualForm | None, forms: Mapping[int, VisualForm]) -> None:
        """joint, forms: as of `Arrangement`."""
        self._rows, self._joint, self._forms = rows, joint, forms

    def of(self, decodes: Mapping[str, Decode], encodes: Mapping[str, Encode], *, images: bool, spare: bool) -> Work:
        """Number what the requests need. images: every image sequence by itself, too.

        spare: one without rows runs on some row and counts nothing.
        """
        rows, work = self._rows, Work()
        asked = [decode.rows for decode in decodes.values()] + [text.rows for text in encodes.values()]
        spares = [next((some[0] for some in asked if some), 0)] if spare else []
        for name, decode in decodes.items():
            self._decoded(work, name, decode, spares)
        work.documents = len(work.reads.first)
        for name, encode in encodes.items():
            numbers_B = np.full(rows.count, -1, np.int64)
            seen_of: Sequence[int | None] = encode.images or [None] * len(encode.of)
            wanted = zip(encode.rows, encode.texts, encode.of, seen_of, strict=True)
            for row, text, of, seen in wanted if encode.rows else ((row, "summary", row, None) for row in spares):
                numbers_B[row] = self._read(work, name, self._with_images(text, of, seen))
            work.encoded[name] = numbers_B
        if images and self._joint is not None and (spare or rows.shown):
            for sequence in range(len(rows.sequence_images)):
                work.reads.number(sequence, Read(text=None, row=-1, sequence=sequence, form=self._joint))
        return work

    def _decoded(self, work: Work, name: str, request: Decode, spares: Sequence[int]) -> None:
        rows, stream = self._rows, work.streams.setdefault(request.decoder, Stream())
        text_B, first = np.full(rows.count, -1, np.int64), len(stream.weights)
        for row in request.rows or spares:
            blind = request.read in SUMMARIES and not request.seen
            sequence, document = -1 if blind else int(rows.sequence_B[row]), -1
            if request.read != "images":
                hidden = None if request.hidden is None else request.hidden.get(row, np.zeros(0, np.int64))
                read = self._with_images(request.read, row, None if blind or self._joint is None else row, hidden)
                document = self._read(work, name, read)
            memory = work.memories.number((document, sequence), (document, sequence))
            # A summary is compared with that of another part, which may have been written from another variant.
            other = -1 if request.beside is None else int(work.decoded[request.beside][row])
            key = (name, memory, other, rows.identity(request.writes, row))
            text = stream.texts.number(key, (request.writes, row, memory))
            if text == len(stream.weights):
                stream.weights.append(0.0)
                if request.beside is not None and spares:
                    stream.beside.setdefault(name, []).append(max(other, work.parts[request.beside][0]))
            if request.rows:
                stream.weights[text] += 1.0
                text_B[row] = text
        work.decoded[name], work.parts[name] = text_B, (first, len(stream.weights))

    def _with_images(self, text: Text, row: int, seen: int | None, hidden: Ints | None = None) -> Read:
        """Return the input of a row's text and the images of the row `seen`, where it has some."""
        sequence = -1 if seen is None else int(self._rows.sequence_B[seen])
        if seen is None or sequence < 0:
            return Read(text=text, row=row, hidden=hidden)
        return Read(text=text, row=row, sequence=sequence, form=self._forms.get(seen, self._joint), hidden=hidden)

    def _read(self, work: Work, name: str, read: Read) -> int:
        """Return the number of an input of the encoder: an article's is one whichever side reads it."""
        assert read.text is not None
        identity = self._rows.identity(read.text, read.row)
        # What is hidden is drawn for each row.
        own = name if self._rows.alone else "" if read.hidden is None else (name, read.row)
        return work.reads.number((read.text in SUMMARIES, identity, read.sequence, read.form, own), read)
