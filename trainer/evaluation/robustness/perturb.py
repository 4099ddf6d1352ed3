"""A kind of perturbation at a severity, as a transform of what the fetcher reads.

Pure functions of (seed, kind, severity, story, language): an example is perturbed in the same way in every batch, on
every rank, after every restart. Only what is summarized is: targets and summaries stay. For decoding alone: where a
document is a row's source and its target, the two now differ. Shape suffixes: shards/schema.py.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from shards.arrays import Ints, Mask
from shards.batch.fetch import Fetched
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.format.index import Corpus
from shards.schema import Article, Unreadable
from shards.stream.images import ImageRule, image_numbers, image_owners
from shards.stream.sampler import Groups
from trainer.evaluation.robustness import features
from trainer.evaluation.robustness.corruptions import corrupted
from trainer.evaluation.robustness.kinds import Kind
from trainer.evaluation.robustness.text import seeded

#: Pictures to features (n, R, V) and boxes (R, 4), as the corpus has them.
Extract = Callable[[Sequence[Image.Image]], tuple[NDArray[np.float16], NDArray[np.float32]]]
#: From features, boxes, a strength and a seed to features and boxes.
_FeatureChange = Callable[[Tensor, Tensor, float, int], tuple[Tensor, Tensor]]

_FEATURE_CHANGES: dict[str, _FeatureChange] = {
    "feature_noise": features.noise,
    "region_drop": features.drop,
    "region_shuffle": features.shuffle,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What perturbations are made from.

    split: where the images of other stories come from.  rule: whose images an example shows.
    """

    corpus: Corpus
    reader: Reader
    split: str
    seed: int
    extract: Extract
    rule: ImageRule = "source"


class Perturbation(Protocol):
    """A transform for `Fetcher` that knows beforehand what it changes."""

    def __call__(self, fetched: Fetched) -> Fetched: ...

    def covers(self, groups: Groups) -> Mask:
        """Whether the kind can be applied to each example at all."""
        ...

    def changes(self, groups: Groups) -> Mask:
        """Whether each example is another one afterwards."""
        ...

    def forget(self) -> None:
        """Give back the memory of what was made so far; it can be made again."""
        ...


def perturbation(kind: Kind, severity: int, material: Material) -> Perturbation:
    if kind.change is not None:
        return TextPerturbation(kind, severity, material)
    if kind.is_text:
        return DocumentPerturbation(kind, severity, material)
    return ImagePerturbation(kind, severity, material)


class DocumentPerturbation:
    """The document of `strength` of the stories is taken away, or exchanged for another story's in its language."""

    def __init__(self, kind: Kind, severity: int, material: Material) -> None:
        self._kind, self._strength, self._material = kind, kind.strength(severity), material
        self._keys = material.corpus.story_keys()
        self._articles = np.asarray(material.corpus.articles)
        #: The split's documents by language, rows in ascending order.
        self._donors: dict[str, Ints] = {}
        if kind.name == "wrong_document":
            rows = np.unique(material.corpus.edges[material.split][:, 0]).astype(np.int64)
            of = self._articles["language"][rows]
            self._donors = {name: rows[of == number] for number, name in enumerate(material.corpus.languages)}
        self.perturbed = functools.lru_cache(maxsize=256)(self._perturb)

    def __call__(self, fetched: Fetched) -> Fetched:
        source, weight_B, unreadable = list(fetched.source), fetched.weight_B.clone(), list(fetched.unreadable)
        for row, (article, story) in enumerate(zip(fetched.source, fetched.groups.story.ravel().tolist(), strict=True)):
            if not weight_B[row]:  # a placeholder stays one
                continue
            try:
                source[row] = self.perturbed(article, story)
            except UnreadableError as error:
                weight_B[row] = 0
                unreadable.append(
                    Unreadable(
                        slot=int(fetched.groups.slot.ravel()[row]),
                        story=story,
                        source=article.language,
                        target=fetched.target[row].language,
                        problem=str(error),
                    )
                )
        unreadable.sort(key=lambda one: one.slot)
        return replace(fetched, source=source, weight_B=weight_B, unreadable=tuple(unreadable))

    def forget(self) -> None:
        self.perturbed.cache_clear()

    def covers(self, groups: Groups) -> Mask:
        if self._kind.name == "no_document":
            return np.ones(len(groups.source), bool)
        languages = self._material.corpus.languages
        of = self._articles["language"][groups.source[:, 0]].tolist()
        several = {number for number, name in enumerate(languages) if len(self._donors[name]) > 1}
        return np.array([number in several for number in of], bool)

    def changes(self, groups: Groups) -> Mask:
        touched = np.array([self._touches(story) for story in groups.story[:, 0].tolist()], bool)
        return touched & self.covers(groups)

    def _touches(self, story: int) -> bool:
        return seeded(self._material.seed, self._kind.name, self._keys[story]).random() < self._strength

    def _perturb(self, article: Article, story: int) -> Article:
        if not self._touches(story):
            return article
        if self._kind.name == "no_document":
            return replace(article, text="")
        rows = self._donors[article.language]
        others = rows[self._articles["story"][rows] != story].tolist()
        if not others:
            return article
        draw = seeded(self._material.seed, self._kind.name, self._keys[story], article.language)
        return replace(article, text=self._material.reader.article(draw.choice(others)).text)


class TextPerturbation:
    """The document is perturbed."""

    def __init__(self, kind: Kind, severity: int, material: Material) -> None:
        assert kind.change is not None
        self._kind, self._change, self._seed = kind, kind.change, material.seed
        self._strength = kind.strength(severity)
        self._reader, self._corpus = material.reader, material.corpus
        self._keys = material.corpus.story_keys()
        self.perturbed = functools.lru_cache(maxsize=256)(self._perturb)

    def __call__(self, fetched: Fetched) -> Fetched:
        source = [
            self.perturbed(article, story)
            for article, story in zip(fetched.source, fetched.groups.story.ravel().tolist(), strict=True)
        ]
        return replace(fetched, source=source)

    def forget(self) -> None:
        self.perturbed.cache_clear()

    def covers(self, groups: Groups) -> Mask:
        can = np.array([self._kind.covers(language) for language in self._corpus.languages], bool)
        covered: Mask = can[self._corpus.articles["language"][groups.source[:, 0]]]
        return covered

    def changes(self, groups: Groups) -> Mask:
        rows, first, place = np.unique(groups.source[:, 0], return_index=True, return_inverse=True)
        changed = [
            self._is_changed(row, story)
            for row, story in zip(rows.tolist(), groups.story[first, 0].tolist(), strict=True)
        ]
        return np.array(changed, bool)[place] & self.covers(groups)

    def _is_changed(self, row: int, story: int) -> bool:
        try:
            article = self._reader.article(row)
        except UnreadableError:  # it is a placeholder then, and counted
            return False
        return self.perturbed(article, story).text != article.text

    def _perturb(self, article: Article, story: int) -> Article:
        if not self._kind.covers(article.language):
            return article
        draw = seeded(self._seed, self._kind.name, self._keys[story], article.language)
        return replace(article, text=self._change(article.text, article.language, self._strength, draw))


class ImagePerturbation:
    """The images are perturbed, as features or as the pictures that features are made of."""

    def __init__(self, kind: Kind, severity: int, material: Material) -> None:
        self._kind, self._severity, self._material = kind, severity, material
        self._strength = kind.strength(severity)
        self._articles = np.asarray(material.corpus.articles)
        self._keys = material.corpus.story_keys()
        # The features of a story's pictures serve all its languages, whose documents are in several batches: by the
        # image sequence, and not by the articles that show it.
        self._made = functools.lru_cache(maxsize=128)(self._make)
        self._owner_of: dict[int, int] = {}
        #: An article with images of each story of the split, by story.
        self._donors: dict[int, int] = {}
        if kind.name == "wrong_images":
            rows = np.unique(material.corpus.edges[material.split])
            rows = rows[self._articles["images"][rows] > 0]
            self._donors = {int(self._articles["story"][row]): int(row) for row in rows[::-1]}

    def __call__(self, fetched: Fetched) -> Fetched:
        owners = self._owners(fetched.groups)
        stories = fetched.groups.story.ravel()
        roi_BIRV, boxes_BIR4 = fetched.roi_BIRV.clone(), fetched.boxes_BIR4.clone()
        image_mask_BI, images_B = fetched.image_mask_BI.clone(), fetched.images_B.clone()
        weight_B, problems = fetched.weight_B.clone(), dict[int, str]()
        for number in sorted({number for number in fetched.images_B.tolist() if number >= 0}):
            rows = torch.nonzero(fetched.images_B == number)[:, 0]
            row = int(rows[0])
            if not self._touches(int(stories[row])):
                continue
            count, most = int(fetched.image_mask_BI[row].sum()), fetched.image_mask_BI.shape[1]
            shown = _Images(
                roi_IRV=fetched.roi_BIRV[row, :count], boxes_IR4=fetched.boxes_BIR4[row, :count], number=number
            )
            try:
                new = self._change(int(owners[row]), int(stories[row]), shown, most)
            except UnreadableError as error:  # placeholders, as what the fetcher cannot read
                new = replace(shown, roi_IRV=shown.roi_IRV[:0], boxes_IR4=shown.boxes_IR4[:0])
                weight_B[rows] = 0
                problems |= dict.fromkeys(rows.tolist(), str(error))
            count = len(new.roi_IRV)
            roi_BIRV[rows], boxes_BIR4[rows], image_mask_BI[rows] = 0, 0, False
            if count:
                roi_BIRV[rows, :count], boxes_BIR4[rows, :count] = new.roi_IRV, new.boxes_IR4
                image_mask_BI[rows, :count] = True
                images_B[rows] = new.number
            else:
                images_B[rows] = -1 - torch.from_numpy(fetched.groups.slot.ravel())[rows]
        return replace(
            fetched,
            roi_BIRV=roi_BIRV,
            boxes_BIR4=boxes_BIR4,
            image_mask_BI=image_mask_BI,
            images_B=images_B,
            weight_B=weight_B,
            unreadable=(
                *fetched.unreadable,
                *(self._describe(fetched, row, problems[row]) for row in sorted(problems)),
            ),
        )

    def forget(self) -> None:
        self._made.cache_clear()

    def _describe(self, fetched: Fetched, row: int, problem: str) -> Unreadable:
        return Unreadable(
            slot=int(fetched.groups.slot.ravel()[row]),
            story=int(fetched.groups.story.ravel()[row]),
            source=fetched.source[row].language,
            target=fetched.target[row].language,
            problem=problem,
        )

    def covers(self, groups: Groups) -> Mask:
        shown: Mask = self._articles["images"][self._owners(groups)] > 0
        if self._kind.name == "wrong_images":
            shown &= np.array([bool(self._donors.keys() - {story}) for story in groups.story[:, 0].tolist()], bool)
        return shown

    def changes(self, groups: Groups) -> Mask:
        touched = np.array([self._touches(story) for story in groups.story[:, 0].tolist()], bool)
        return touched & self.covers(groups)

    def _owners(self, groups: Groups) -> Ints:
        return image_owners(self._articles, groups.source.ravel(), groups.target.ravel(), self._material.rule)

    def _touches(self, story: int) -> bool:
        """Whether the images of this story are."""
        if self._kind.name not in ("wrong_images", "no_images"):
            return True
        return seeded(self._material.seed, self._kind.name, self._keys[story]).random() < self._strength

    def _change(self, owner: int, story: int, shown: "_Images", most: int) -> "_Images":
        """New images for article `owner`, at most `most`, or none."""
        name, roi_IRV, boxes_IR4 = self._kind.name, shown.roi_IRV, shown.boxes_IR4
        draw = seeded(self._material.seed, name, self._keys[story], "images")
        if name == "no_images":
            return replace(shown, roi_IRV=roi_IRV[:0], boxes_IR4=boxes_IR4[:0])
        if name == "wrong_images":
            return self._stored(draw.choice([row for of, row in self._donors.items() if of != story]), shown, most)
        if name in _FEATURE_CHANGES:
            changed = _FEATURE_CHANGES[name](roi_IRV, boxes_IR4, self._strength, draw.getrandbits(63))
            return replace(shown, roi_IRV=changed[0], boxes_IR4=changed[1])
        self._owner_of[shown.number] = owner  # any that shows these images will do
        roi, boxes = self._made(shown.number, len(roi_IRV), draw.getrandbits(63))
        return replace(shown, roi_IRV=roi, boxes_IR4=boxes)

    def _stored(self, row: int, like: "_Images", most: int) -> "_Images":
        """The images of article `row`."""
        count = min(int(self._articles["images"][row]), most)
        roi_BIRV = torch.empty(1, count, *like.roi_IRV.shape[1:], dtype=torch.float16)
        boxes_BIR4 = torch.empty(1, count, *like.boxes_IR4.shape[1:])
        (outcome,) = self._material.reader.images([row], roi_BIRV.numpy(), boxes_BIR4.numpy()).finish()
        if isinstance(outcome, UnreadableError):
            raise outcome
        number = int(image_numbers(self._articles, np.array([row]))[0])
        return _Images(roi_IRV=roi_BIRV[0], boxes_IR4=boxes_BIR4[0], number=number)

    def _make(self, number: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Features and boxes of the corrupted pictures of image sequence `number`."""
        draw = seeded(seed)
        pictures = self._material.reader.pixels(self._owner_of[number])[:count]
        made = [corrupted(picture, self._kind.name, self._severity, draw.getrandbits(63)) for picture in pictures]
        roi_IRV, boxes_R4 = self._material.extract(made)
        return torch.from_numpy(roi_IRV), torch.from_numpy(boxes_R4).expand(len(made), *boxes_R4.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Images:
    """number: which stored image sequence it is."""

    roi_IRV: Tensor
    boxes_IR4: Tensor
    number: int
