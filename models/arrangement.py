"""Arrange what a micro-batch asks of the network, without padding and without computing anything twice.

Rows of a batch share: a target article is taught once for all rows that have it and show the same images, an article is
encoded once whether it is read as source, as target or as both, and an image sequence once for all that look at it. A
text's weight says for how many rows it stands, so sums over the batch stay what they were. All of it is decided on the
host, from lengths.

Shape suffixes as in models/ragged.py; X images, B rows of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.ragged import Layout, averaging, cross_layout, self_layout
from models.sharing import Distinct, Rows, Side
from shards.arrays import Ints
from shards.batch.types import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Arranged:
    """Texts, images and summaries to compute, each once, and where the batch's rows find theirs.

    The encoder reads distinct documents, then distinct summaries (where asked for); the decoder writes summaries,
    those of the teacher first. A *memory* is a document with the images it is fused with.
    """

    ids_T: Tensor  # int64: documents, then summaries
    texts: Layout
    document_tokens: int
    image_X: Tensor  # int64: flat index (row * I + image) of the images to encode
    place_X: Tensor  # int64: number in its sequence
    images: Layout
    pool_images: Tensor  # (sequences, S): ones where a region belongs to a sequence
    pool_summaries: Tensor | None  # (summaries, T): likewise for the summaries' tokens
    pool_documents: Tensor | None  # (documents, T): likewise for the documents' tokens
    memory_T: Tensor | None  # int64: document tokens of the memories; None: the documents in their order
    fusion: Layout
    seen_T1: Tensor  # bool: memory tokens of documents with images
    decoder_ids_T: Tensor  # int64: start token and summary but its last token
    target_T: Tensor  # int64: what each decoder state predicts
    decoder: Layout
    cross: Layout
    weight_T: Tensor  # float32: for how many rows a target token stands; 0 for what must run but does not count
    teacher_tokens: int  # of target_T, the first ones
    taught_T: Tensor  # int64: the teacher's token for each of the student's
    text_T: Tensor  # int64: the summary, of all that are decoded, a target token belongs to
    decoded: int  # summaries that are decoded
    sequence_B: Tensor  # int64: the image sequence of a row (0 where it has none: masked elsewhere)
    summary_B: Tensor  # int64: the summary of a row
    teacher_B: Tensor  # int64: the decoded summary of a row's teacher; -1 for none
    student_B: Tensor  # int64: likewise of its student
    memory_of: Tensor  # int64: the memory that each decoded summary reads
    document_of: Tensor  # int64: the document of each memory
    real_tokens: int  # of texts and decoded summaries
    computed_tokens: int  # places in the rows that their self-attention computes

    def to(self, device: torch.device, dtype: torch.dtype) -> "Arranged":
        """Return the same on `device`, masks in the precision `dtype`, without waiting for the device."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if isinstance(value, Layout):
                values[name] = value.to(device, dtype)
            elif isinstance(value, Tensor):
                values[name] = value.to(device, non_blocking=True)
        return Arranged(**values)


def arrange(
    batch: Batch,
    *,
    teacher_rows: Sequence[int] | None,
    student_rows: Sequence[int] | None,
    summaries: bool = False,
    documents: bool = False,
    marked: bool = False,
    share: bool = True,
) -> Arranged:
    """Arrange the teacher's rows (from their target documents) and the student's (from their source documents).

    None: there is no such branch. A branch without rows runs on some row and counts nothing, so that every parameter
    takes part in every step. summaries: encode the target summaries of all real rows as texts, too; marked: behind
    their start tokens, because a document begins with its language's. documents: make what pools documents, too. share
    False computes every row on its own. `batch` is on the host.
    """
    assert batch.cross_B.device.type == "cpu", "arrange a batch before it is moved"
    rows = Rows(batch, share)
    work = _distinct_work(rows, teacher_rows, student_rows, summaries=summaries)

    document_ids = [rows.ids(side, row) for side, row in work.documents.first]
    summary_ids = [rows.ids("summary", row) for row in work.summaries.first]
    target_ids = [rows.ids("summary", row) for row, _ in work.decoded.first]
    starts = batch.start_B.numpy()
    if marked:
        summary_ids = [np.r_[starts[row], ids] for row, ids in zip(work.summaries.first, summary_ids, strict=True)]
    sizes, document_sizes = _sizes(target_ids), _sizes(document_ids)
    document_of = np.array([document for document, _ in work.memories.first])
    in_order = document_of.tolist() == list(range(len(document_ids)))
    memory_sizes = [document_sizes[document] for document in document_of]
    sequence_of = [sequence for _, sequence in work.memories.first]
    seen = [sequence >= 0 for sequence in sequence_of]
    # Without any image there is one sequence all the same, looked at by one text and hidden from it afterwards.
    looking = sequence_of if any(seen) else [0, *sequence_of[1:]]
    texts = self_layout(document_sizes + _sizes(summary_ids), causal=False)
    decoder = self_layout(sizes, causal=True)
    return Arranged(
        ids_T=_flat([*document_ids, *summary_ids]),
        texts=texts,
        document_tokens=sum(document_sizes),
        image_X=torch.from_numpy(rows.image_X),
        place_X=torch.from_numpy(rows.place_X),
        images=self_layout(rows.sequence_sizes, causal=False),
        pool_images=averaging(rows.sequence_sizes),
        pool_summaries=averaging(_sizes(summary_ids)) if summaries else None,
        pool_documents=averaging(document_sizes) if documents else None,
        memory_T=None if in_order else torch.from_numpy(_ranges(document_of, np.array(document_sizes))),
        fusion=cross_layout(memory_sizes, looking, rows.sequence_sizes),
        seen_T1=torch.from_numpy(np.repeat(seen, memory_sizes))[:, None],
        decoder_ids_T=_flat(
            [np.r_[starts[row], ids[:-1]] for (row, _), ids in zip(work.decoded.first, target_ids, strict=True)]
        ),
        target_T=_flat(target_ids),
        decoder=decoder,
        cross=cross_layout(sizes, [memory for _, memory in work.decoded.first], memory_sizes),
        weight_T=torch.from_numpy(np.repeat(np.array(work.weights, np.float32), sizes)),
        teacher_tokens=sum(sizes[: work.teachers]),
        taught_T=torch.from_numpy(_ranges(np.array(work.taught, np.int64), np.array(sizes))),
        text_T=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        decoded=len(sizes),
        sequence_B=torch.from_numpy(np.maximum(rows.sequence_B, 0)),
        summary_B=torch.from_numpy(work.summary_B),
        teacher_B=torch.from_numpy(work.text_B["teacher"]),
        student_B=torch.from_numpy(work.text_B["student"]),
        memory_of=torch.tensor([memory for _, memory in work.decoded.first]),
        document_of=torch.from_numpy(document_of),
        real_tokens=int(texts.queries.place_T.numel() + decoder.queries.place_T.numel()),
        computed_tokens=sum(layout.queries.rows * layout.queries.length for layout in (texts, decoder)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Lengths of what a micro-batch computes, each thing once; rows that run and count nothing are left out."""

    images: list[int]  # an image sequence
    documents: list[int]  # tokens
    summaries: list[int]  # tokens of the summaries that are encoded
    memories: list[tuple[int, int]]  # (tokens of the document, images)
    decoded: list[tuple[int, int]]  # (tokens of the document, of the summary)


def arranged_lengths(
    batch: Batch,
    *,
    teacher_rows: Sequence[int] | None,
    student_rows: Sequence[int] | None,
    summaries: bool = False,
    share: bool = True,
) -> Lengths:
    """Return the lengths of what `arrange` lets the network compute of the same arguments."""
    rows = Rows(batch, share)
    work = _distinct_work(rows, teacher_rows, student_rows, summaries=summaries, spare=False)
    documents = [len(rows.ids(side, row)) for side, row in work.documents.first]
    memories = [
        (documents[document], rows.shown[sequence] if sequence >= 0 else 0)
        for document, sequence in work.memories.first
    ]
    return Lengths(
        images=[rows.shown[sequence] for sequence in set(rows.sequence_B[rows.real].tolist()) - {-1}],
        documents=documents,
        summaries=[len(rows.ids("summary", row)) for row in work.summaries.first],
        memories=memories,
        decoded=[(memories[memory][0], len(rows.ids("summary", row))) for row, memory in work.decoded.first],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """Distinct documents, images and summaries of a batch, each by the row where it first appears."""

    documents: Distinct  # (side, row)
    memories: Distinct  # (document, image sequence or -1)
    decoded: Distinct  # (row, memory): first the teacher's summaries, then the student's
    summaries: Distinct  # row, as texts of their own
    weights: list[float]  # of the decoded summaries
    teachers: int  # of the decoded summaries
    taught: list[int]  # the teacher's decoded summary for each of the student's; empty without a teacher
    text_B: dict[str, Ints]  # branch -> the decoded summary of a row, -1 for none
    summary_B: Ints


def _distinct_work(
    rows: Rows,
    teacher_rows: Sequence[int] | None,
    student_rows: Sequence[int] | None,
    *,
    summaries: bool,
    spare: bool = True,
) -> _Work:
    """Number what the branches' rows need. spare: a branch without rows runs on some row and counts nothing."""
    documents, memories, decoded, read = Distinct(), Distinct(), Distinct(), Distinct()
    weights: list[float] = []
    taught: list[int] = []
    teachers, spares = 0, [(teacher_rows or student_rows or [0])[0]] if spare else []
    text_B = {branch: np.full(rows.count, -1, np.int64) for branch in ("teacher", "student")}
    sides: dict[str, Side] = {"teacher": "target", "student": "source"}
    for branch, of_branch in (("teacher", teacher_rows), ("student", student_rows)):
        if of_branch is None:
            continue
        side = sides[branch]
        for row in of_branch or spares:
            sequence = int(rows.sequence_B[row])
            document = documents.number((rows.identity(side, row), branch if rows.alone else ""), (side, row))
            memory = memories.number((document, sequence), (document, sequence))
            # A student's summary is compared with its teacher's, which may have read another variant of the target.
            teacher = int(text_B["teacher"][row])
            text = decoded.number((branch, memory, teacher, rows.identity("summary", row)), (row, memory))
            if text == len(weights):
                weights.append(0.0)
                if branch == "student" and teacher_rows is not None:
                    taught.append(teacher if teacher_rows else 0)
            if of_branch:
                weights[text] += 1.0
                text_B[branch][row] = text
        teachers = len(weights) if branch == "teacher" else teachers
    summary_B = np.zeros(rows.count, np.int64)
    if summaries:
        for row in rows.real or spares:
            summary_B[row] = read.number(rows.identity("summary", row), row)
    return _Work(
        documents=documents,
        memories=memories,
        decoded=decoded,
        summaries=read,
        weights=weights,
        teachers=teachers,
        taught=taught,
        text_B=text_B,
        summary_B=summary_B,
    )


def _flat(texts: Sequence[Ints]) -> Tensor:
    return torch.from_numpy(np.concatenate(texts))


def _sizes(texts: Sequence[Ints]) -> list[int]:
    return [len(text) for text in texts]


def same_tokens(arranged: Arranged, text_B: Tensor, other: Arranged, other_B: Tensor) -> Tensor:
    """Return, for each target token of `arranged`, that of the same row's summary in `other`: (T,) int64.

    text_B, other_B: the decoded summary of a row in either, -1 for none. All is on the host. A summary that no row has,
    which runs and counts nothing, has the tokens of the first.
    """
    texts = np.zeros(arranged.decoded, np.int64)
    for text, of_other in zip(text_B.tolist(), other_B.tolist(), strict=True):
        if text >= 0:
            texts[text] = of_other
    return torch.from_numpy(_ranges(texts, np.bincount(other.text_T.numpy(), minlength=other.decoded)))


def _ranges(texts: Ints, sizes: Ints) -> Ints:
    """Return the tokens of `texts` in a stream of texts of `sizes`, one text after another."""
    starts = np.cumsum(sizes) - sizes
    parts = [np.arange(starts[text], starts[text] + sizes[text]) for text in texts]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
