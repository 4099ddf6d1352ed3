"""Perturb what the fetcher reads, by a kind of perturbation at a severity: transforms (shards/batch/transforms.py).

Pure functions of (seed, kind, severity, story, language): an example is perturbed alike in every batch, on every rank,
after every restart. Only what is summarized changes, not targets and summaries: a document that is a row's source and
target differs between the two. Shape suffixes: shards/schema.py.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from shards.arrays import Ints, Mask
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.batch.transforms import Fetched, Transform
from shards.draws import seeded
from shards.format.index import Corpus
from shards.schema import Article, Unreadable
from shards.stream.images import ImageRule, image_numbers, image_owners
from shards.stream.sampler import Groups
from trainer.evaluation.robustness import features
from trainer.evaluation.robustness.corruptions import corrupted
from trainer.evaluation.robustness.kinds import Kind
from trainer.evaluation.robustness.shown import Shown, squares

#: Pictures to features (n, R, V) and boxes (R, 4), as the corpus has them.
Extract = Callable[[Sequence[Image.Image]], tuple[NDArray[np.float16], NDArray[np.float32]]]

_FEATURE_CHANGES: dict[str, Callable[[Tensor, Tensor, float, int], tuple[Tensor, Tensor]]] = {
    "feature_noise": features.noise,
    "region_drop": features.drop,
    "region_shuffle": features.shuffle,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Sources of perturbed texts and images.

    split: where other stories' documents and images come from.  rule: which article's images an example shows.
    """

    corpus: Corpus
    reader: Reader
    split: str
    seed: int
    extract: Extract
    rule: ImageRule = "source"


def perturbation(kind: Kind, severity: int, material: Material) -> "Perturbation":
    """Return the transform of a kind at a severity, for `Fetcher`."""
    return (TextPerturbation if kind.is_text else ImagePerturbation)(kind, severity, material)


class Perturbation(Transform, ABC):
    """A transform that knows beforehand which examples it changes."""

    def __init__(self, kind: Kind, severity: int, material: Material) -> None:
        self._kind, self._severity, self._strength = kind, severity, kind.strength(severity)
        self._material, self._keys = material, material.corpus.story_keys()
        self._articles = np.asarray(material.corpus.articles)

    @abstractmethod
    def __call__(self, fetched: Fetched) -> Fetched:
        """Return the batch, perturbed."""

    @abstractmethod
    def covers(self, groups: Groups) -> Mask:
        """Return True for each example that the kind applies to."""

    def changes(self, groups: Groups) -> Mask:
        """Return True for each example that differs afterwards."""
        touched = np.array([self._touches(story) for story in groups.story[:, 0].tolist()], bool)
        return touched & self.covers(groups)

    @abstractmethod
    def forget(self) -> None:
        """Free the memory of what was made so far; it can be made again."""

    def _touches(self, story: int) -> bool:
        """Return True if the story is in the share that a kind of whole stories changes; always True for others."""
        return not self._kind.takes_stories or self._draw(story).random() < self._strength

    def _draw(self, story: int, *names: str) -> Random:
        return seeded(self._material.seed, self._kind.name, self._keys[story], *names)

    def _placeholders(self, fetched: Fetched, problems: dict[int, str]) -> Fetched:
        """Return the batch with rows that could not be read as placeholders, as the fetcher leaves them."""
        weight_B = fetched.weight_B.clone()
        for row in problems:
            weight_B[row] = 0
        unreadable = [
            Unreadable(
                slot=int(fetched.slot[row]),
                story=int(fetched.story[row]),
                source=fetched.source[row].language,
                target=fetched.target[row].language,
                problem=problem,
            )
            for row, problem in problems.items()
        ]
        all_unreadable = sorted([*fetched.unreadable, *unreadable], key=lambda one: one.slot)
        return replace(fetched, weight_B=weight_B, unreadable=tuple(all_unreadable))


class TextPerturbation(Perturbation):
    """Perturb the document, take it away, or exchange it for another story's in its language."""

    def __init__(self, kind: Kind, severity: int, material: Material) -> None:
        super().__init__(kind, severity, material)
        #: The split's documents by language, rows in ascending order.
        self._donors: dict[str, Ints] = {}
        if kind.name == "wrong_document":
            rows = np.unique(material.corpus.edges[material.split][:, 0]).astype(np.int64)
            of = self._articles["language"][rows]
            self._donors = {name: rows[of == number] for number, name in enumerate(material.corpus.languages)}
        self.perturbed = functools.lru_cache(maxsize=256)(self._perturb)

    def __call__(self, fetched: Fetched) -> Fetched:
        source, problems = list(fetched.source), dict[int, str]()
        for row, (article, story) in enumerate(zip(fetched.source, fetched.story.tolist(), strict=True)):
            if fetched.weight_B[row]:
                try:
                    source[row] = self.perturbed(article, story)
                except UnreadableError as error:
                    problems[row] = str(error)
        return replace(self._placeholders(fetched, problems), source=source)

    def forget(self) -> None:
        self.perturbed.cache_clear()

    def covers(self, groups: Groups) -> Mask:
        can = np.array([self._covers(language) for language in self._material.corpus.languages], bool)
        covered: Mask = can[self._articles["language"][groups.source[:, 0]]]
        return covered

    def _covers(self, language: str) -> bool:
        if self._kind.name == "wrong_document":
            return len(self._donors[language]) > 1
        return self._kind.covers(language)

    def changes(self, groups: Groups) -> Mask:
        if self._kind.change is None:
            return super().changes(groups)
        rows, first, place = np.unique(groups.source[:, 0], return_index=True, return_inverse=True)
        stories = groups.story[first, 0]
        changed = [self._is_changed(row, story) for row, story in zip(rows.tolist(), stories.tolist(), strict=True)]
        return np.array(changed, bool)[place] & self.covers(groups)

    def _is_changed(self, row: int, story: int) -> bool:
        try:
            article = self._material.reader.article(row)
        except UnreadableError:  # a placeholder, which is counted
            return False
        return self.perturbed(article, story).text != article.text

    def _perturb(self, article: Article, story: int) -> Article:
        if not self._covers(article.language) or not self._touches(story):
            return article
        if self._kind.name == "no_document":
            return replace(article, text="")
        draw = self._draw(story, article.language)
        if self._kind.change is not None:
            return replace(article, text=self._kind.change(article.text, article.language, self._strength, draw))
        rows = self._donors[article.language]
        others = rows[self._articles["story"][rows] != story].tolist()
        return replace(article, text=self._material.reader.article(draw.choice(others)).text) if others else article


class ImagePerturbation(Perturbation):
    """Perturb the images, as features or as the pictures that features are made of."""

    def __init__(self, kind: Kind, severity: int, material: Material) -> None:
        super().__init__(kind, severity, material)
        # By image sequence, not by article: the features of a story's pictures serve all its languages, whose
        # documents are in several batches.
        self._made = functools.lru_cache(maxsize=128)(self._make)
        self._owner_of: dict[int, int] = {}
        #: An article with images of each story of the split, by story.
        self._donors: dict[int, int] = {}
        if kind.name == "wrong_images":
            rows = np.unique(material.corpus.edges[material.split])
            rows = rows[self._articles["images"][rows] > 0]
            self._donors = {int(self._articles["story"][row]): int(row) for row in rows[::-1]}

    def __call__(self, fetched: Fetched) -> Fetched:
        owners, stories = self._owners(fetched.source_row, fetched.target_row), fetched.story
        roi_BIRV, boxes_BIR4 = fetched.roi_BIRV.clone(), fetched.boxes_BIR4.clone()
        image_mask_BI, images_B = fetched.image_mask_BI.clone(), fetched.images_B.clone()
        pixels_BIHWC = None if fetched.pixels_BIHWC is None else fetched.pixels_BIHWC.clone()
        problems = dict[int, str]()
        for number in sorted({number for number in fetched.images_B.tolist() if number >= 0}):
            rows = torch.nonzero(fetched.images_B == number)[:, 0]
            row = int(rows[0])
            if not self._touches(int(stories[row])):
                continue
            count, most = int(fetched.image_mask_BI[row].sum()), fetched.image_mask_BI.shape[1]
            shown = Shown(
                roi_IRV=fetched.roi_BIRV[row, :count],
                boxes_IR4=fetched.boxes_BIR4[row, :count],
                number=number,
                pixels_IHWC=None if pixels_BIHWC is None else pixels_BIHWC[row, :count].clone(),
            )
            try:
                new = self._change(int(owners[row]), int(stories[row]), shown, most)
            except UnreadableError as error:
                new = shown.none()
                problems |= dict.fromkeys(rows.tolist(), str(error))
            count = len(new.roi_IRV)
            roi_BIRV[rows], boxes_BIR4[rows], image_mask_BI[rows] = 0, 0, False
            if pixels_BIHWC is not None and new.pixels_IHWC is not None:
                pixels_BIHWC[rows] = 0
                pixels_BIHWC[rows, :count] = new.pixels_IHWC
            if count:
                roi_BIRV[rows, :count], boxes_BIR4[rows, :count] = new.roi_IRV, new.boxes_IR4
                image_mask_BI[rows, :count] = True
                images_B[rows] = new.number
            else:
                images_B[rows] = -1 - torch.from_numpy(fetched.slot)[rows]
        return replace(
            self._placeholders(fetched, problems),
            roi_BIRV=roi_BIRV,
            boxes_BIR4=boxes_BIR4,
            image_mask_BI=image_mask_BI,
            images_B=images_B,
            pixels_BIHWC=pixels_BIHWC,
        )

    def forget(self) -> None:
        self._made.cache_clear()

    def covers(self, groups: Groups) -> Mask:
        shown: Mask = self._articles["images"][self._owners(groups.source.ravel(), groups.target.ravel())] > 0
        if self._kind.name == "wrong_images":
            shown &= np.array([bool(self._donors.keys() - {story}) for story in groups.story[:, 0].tolist()], bool)
        return shown

    def _owners(self, sources: Ints, targets: Ints) -> Ints:
        return image_owners(self._articles, sources, targets, self._material.rule)

    def _change(self, owner: int, story: int, shown: Shown, most: int) -> Shown:
        """Return new images for article `owner`, at most `most`, or none."""
        name, draw = self._kind.name, self._draw(story, "images")
        if name == "no_images":
            return shown.none()
        if name == "wrong_images":
            return self._stored(draw.choice([row for of, row in self._donors.items() if of != story]), shown, most)
        if name in _FEATURE_CHANGES:
            change = _FEATURE_CHANGES[name]
            roi_IRV, boxes_IR4 = change(shown.roi_IRV, shown.boxes_IR4, self._strength, draw.getrandbits(63))
        else:
            self._owner_of[shown.number] = owner  # any article that shows these images
            made, seed = self._made, draw.getrandbits(63)
            new = made(shown.number, len(shown.roi_IRV), seed, shown.has_features, shown.picture_side)
            return new if shown.has_features else replace(new, roi_IRV=shown.roi_IRV, boxes_IR4=shown.boxes_IR4)
        return replace(shown, roi_IRV=roi_IRV, boxes_IR4=boxes_IR4)

    def _stored(self, row: int, like: Shown, most: int) -> Shown:
        """Return the images of article `row`."""
        count = min(int(self._articles["images"][row]), most)
        roi_BIRV = torch.empty(1, count, *like.roi_IRV.shape[1:], dtype=torch.float16)
        boxes_BIR4 = torch.zeros(1, count, *like.boxes_IR4.shape[1:])
        reader, side = self._material.reader, like.picture_side
        if like.has_features:
            (outcome,) = reader.images([row], roi_BIRV.numpy(), boxes_BIR4.numpy()).finish()
            if isinstance(outcome, UnreadableError):
                raise outcome
        number = int(image_numbers(self._articles, np.array([row]))[0])
        pixels_IHWC = squares(reader.pixels(row)[:count], side) if side else None
        return Shown(roi_IRV=roi_BIRV[0], boxes_IR4=boxes_BIR4[0], number=number, pixels_IHWC=pixels_IHWC)

    def _make(self, number: int, count: int, seed: int, has_features: bool, side: int) -> Shown:
        """Return the corrupted pictures of image sequence `number` with their features, where those are read.

        side: width and height of its pixels; 0 for none.
        """
        draw = seeded(seed)
        pictures = self._material.reader.pixels(self._owner_of[number])[:count]
        made = [corrupted(picture, self._kind.name, self._severity, draw.getrandbits(63)) for picture in pictures]
        pixels_IHWC = squares(made, side) if side else None
        if not has_features:
            empty = torch.zeros(len(made), 0, 0)
            return Shown(roi_IRV=empty, boxes_IR4=empty, number=number, pixels_IHWC=pixels_IHWC)
        roi_IRV, boxes_R4 = self._material.extract(made)
        return Shown(
            roi_IRV=torch.from_numpy(roi_IRV),
            boxes_IR4=torch.from_numpy(boxes_R4).expand(len(made), *boxes_R4.shape),
            number=number,
            pixels_IHWC=pixels_IHWC,
        )
