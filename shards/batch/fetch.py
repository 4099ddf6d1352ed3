"""Read the articles and images of groups into host memory, with a placeholder for what cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shards.batch.buffers import BufferPool
from shards.batch.pictures import Pictures
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.batch.transforms import Fetched, Transform
from shards.format.index import Corpus
from shards.schema import Article, Unreadable
from shards.stream.images import ImageRule, image_numbers, image_owners
from shards.stream.sampler import Groups


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSizes:
    """The room for images in a batch. `load` False leaves features on disk: without pictures, no row has an image.

    picture_side: width and height of the pictures; 0 leaves those on disk.
    """

    images: int  # I, images an article
    regions: int  # R
    feature_size: int  # V
    load: bool = True
    picture_side: int = 0


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
        transforms: Sequence[Transform] = (),
    ) -> None:
        """rule: the article whose images a row shows; by default never the target, which a user does not have.

        `pinned`: features in page-locked memory, for a CUDA device.  transforms: applied to what is read, in order.
        """
        self._corpus = corpus
        self._reader = reader
        self._sizes = sizes
        self._articles = np.asarray(corpus.articles)
        self._rule = rule
        self._buffers = BufferPool(pinned=pinned)
        self._transforms = tuple(transforms)

    def __call__(self, groups: Groups) -> Fetched:
        """Read the texts and images of whole groups. V is one image sequence a row, for both branches."""
        sources, targets = groups.source.ravel(), groups.target.ravel()
        rows, slot, sizes = len(sources), groups.slot.ravel(), self._sizes
        owners = image_owners(self._articles, sources, targets, self._rule)
        numbers = image_numbers(self._articles, owners)
        shape = (rows, sizes.images, sizes.regions)
        roi_BIRV = self._buffers.take((*shape, sizes.feature_size if sizes.load else 0), torch.float16)
        boxes_BIR4 = torch.zeros(*shape, 4)
        reading = None
        if sizes.load:
            reading = self._reader.images(owners.tolist(), roi_BIRV.numpy(), boxes_BIR4.numpy())
        pixels_BIHWC, pictures = None, None
        if side := sizes.picture_side:
            pixels_BIHWC = self._buffers.take((rows, sizes.images, side, side, 3), torch.uint8)
            pictures = Pictures(self._reader, owners, numbers, pixels_BIHWC.numpy())

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
        for row, found in enumerate(pictures.finish() if pictures is not None else ()):
            if isinstance(found, str):
                problems.setdefault(row, found)
            else:
                counts[row] = found
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
                if pixels_BIHWC is not None:
                    pixels_BIHWC[row, count:] = 0
        image_mask_BI = torch.from_numpy(np.arange(sizes.images) < np.array(counts)[:, None])
        images_B = np.where(np.array(counts) > 0, numbers, -1 - slot)
        fetched = Fetched(
            slot=slot,
            story=groups.story.ravel(),
            source_row=sources,
            target_row=targets,
            source=source_articles,
            target=target_articles,
            roi_BIRV=roi_BIRV,
            boxes_BIR4=boxes_BIR4,
            image_mask_BI=image_mask_BI,
            images_B=torch.from_numpy(images_B),
            weight_B=torch.from_numpy(weight_B),
            unreadable=tuple(self._describe(groups, row, problems[row]) for row in sorted(problems)),
            pixels_BIHWC=pixels_BIHWC,
        )
        for transform in self._transforms:
            fetched = transform(fetched)
        return fetched

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
