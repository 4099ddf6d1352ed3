"""Read the articles and features of groups into host memory, with a placeholder for what cannot be read."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from shards.batch.buffers import BufferPool
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.batch.types import ImageRows
from shards.format.index import Corpus
from shards.schema import Article, Unreadable
from shards.stream.images import ImageRule, image_numbers, image_owners
from shards.stream.sampler import Groups


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSizes:
    """The room for features in a batch. `load` False leaves them on disk: all rows are without images."""

    images: int  # I, images an article
    regions: int  # R
    feature_size: int  # V
    load: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """The examples of whole groups, rows in slot order. Rows of a placeholder hold no text, no image, weight 0."""

    groups: Groups
    source: list[Article]
    target: list[Article]
    roi_BIRV: torch.Tensor  # float16, zeros where there is no image
    boxes_BIR4: torch.Tensor  # float32
    image_mask_BI: torch.Tensor  # bool
    images_B: torch.Tensor  # int64, which stored image sequence a row holds; negative, and its own, where it has none
    weight_B: torch.Tensor  # float32
    unreadable: tuple[Unreadable, ...]

    @property
    def images(self) -> ImageRows:
        return ImageRows(
            roi_BIRV=self.roi_BIRV,
            boxes_BIR4=self.boxes_BIR4,
            image_mask_BI=self.image_mask_BI,
            images_B=self.images_B,
        )


class Transform(Protocol):
    """Changes documents or images of examples before they are tokenized, never what they are measured by.

    Rows that have one number in `images_B` must have one image sequence afterwards: it is computed once for them.
    """

    def __call__(self, fetched: Fetched) -> Fetched: ...


class Fetcher:
    """Reads what a micro-batch needs. Holds no state that depends on what came before."""

    def __init__(
        self,
        corpus: Corpus,
        reader: Reader,
        sizes: ImageSizes,
        *,
        rule: ImageRule = "source",
        pinned: bool = False,
        transform: Transform | None = None,
    ) -> None:
        """rule: the article whose images a row shows; by default never the target, which a user does not have.

        `pinned`: features in page-locked memory, for a CUDA device.
        """
        self._corpus = corpus
        self._reader = reader
        self._sizes = sizes
        self._articles = np.asarray(corpus.articles)
        self._rule = rule
        self._buffers = BufferPool(pinned=pinned)
        self._transform = transform

    def __call__(self, groups: Groups) -> Fetched:
        """Read the texts and images of whole groups. V is one image sequence a row, for both branches."""
        sources, targets = groups.source.ravel(), groups.target.ravel()
        rows, sizes = len(sources), self._sizes
        owners = image_owners(self._articles, sources, targets, self._rule)
        shape = (rows, sizes.images, sizes.regions)
        roi_BIRV = self._buffers.take((*shape, sizes.feature_size if sizes.load else 0), torch.float16)
        boxes_BIR4 = torch.zeros(*shape, 4)
        reading = None
        if sizes.load:
            reading = self._reader.images(owners.tolist(), roi_BIRV.numpy(), boxes_BIR4.numpy())

        # The text meanwhile.
        problems: dict[int, str] = {}  # not the errors, whose tracebacks would keep the buffers
        source_articles, target_articles = [], []
        for row, (source, target) in enumerate(zip(sources.tolist(), targets.tolist(), strict=True)):
            try:
                wanted = self._reader.article(target)
                given = wanted if source == target else self._reader.article(source)
            except UnreadableError as error:
                problems[row] = str(error)
                wanted, given = self._empty(target), self._empty(source)
            source_articles.append(given)
            target_articles.append(wanted)

        counts = [0] * rows
        for row, outcome in enumerate(reading.finish() if reading is not None else ()):
            if isinstance(outcome, UnreadableError):
                problems[row] = str(outcome)
            else:
                counts[row] = outcome
        weight_B = np.ones(rows, np.float32)
        for row in problems:
            counts[row] = 0
            weight_B[row] = 0
            source_articles[row] = self._empty(int(sources[row]))
            target_articles[row] = self._empty(int(targets[row]))
            boxes_BIR4[row] = 0
        for row, count in enumerate(counts):
            if count < sizes.images:
                roi_BIRV[row, count:] = 0  # the memory was used before
        image_mask_BI = torch.from_numpy(np.arange(sizes.images) < np.array(counts)[:, None])
        images_B = np.where(np.array(counts) > 0, image_numbers(self._articles, owners), -1 - groups.slot.ravel())
        fetched = Fetched(
            groups=groups,
            source=source_articles,
            target=target_articles,
            roi_BIRV=roi_BIRV,
            boxes_BIR4=boxes_BIR4,
            image_mask_BI=image_mask_BI,
            images_B=torch.from_numpy(images_B),
            weight_B=torch.from_numpy(weight_B),
            unreadable=tuple(self._describe(groups, row, problems[row]) for row in sorted(problems)),
        )
        return fetched if self._transform is None else self._transform(fetched)

    def _empty(self, row: int) -> Article:
        language = self._corpus.languages[self._corpus.articles["language"][row]]
        return Article(language=language, text="", summary="")

    def _describe(self, groups: Groups, row: int, problem: str) -> Unreadable:
        languages, language = self._corpus.languages, self._corpus.articles["language"]
        return Unreadable(
            slot=int(groups.slot.ravel()[row]),
            story=int(groups.story.ravel()[row]),
            source=languages[language[groups.source.ravel()[row]]],
            target=languages[language[groups.target.ravel()[row]]],
            problem=problem,
        )
