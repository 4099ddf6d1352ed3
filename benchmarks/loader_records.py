"""The records that every contender of `benchmarks.loader` delivers, each made from its number alone.

Imports numpy only, so that the interpreter the peers run in need not have this project's dependencies.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Five images of 36 regions of 2,048 features: what an article of the paper's size brings along.
ROI_SHAPE = (5, 36, 2048)
BOXES_SHAPE = (5, 36, 4)
RECORD_BYTES = 2 * 5 * 36 * 2048  # float16; a GB of this benchmark counts these alone
BATCH = 8

_TEXT_BYTES, _SUMMARY_BYTES = 3000, 200
#: First and last letter of the script each language is written in here.
_LETTERS = {"english": "az", "french": "az", "hindi": "अह", "urdu": "بي"}
LANGUAGES = tuple(_LETTERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """An article: its text, its summary, its five images."""

    language: str
    text: str
    summary: str
    roi_IRV: NDArray[np.float16]
    boxes_IR4: NDArray[np.float32]


class Delivered(NamedTuple):
    """A batch. features (B, 180, 2048) float16, boxes (B, 180, 4) float32, mask (B, 5) bool: torch tensors."""

    features: Any
    boxes: Any
    mask: Any
    texts: list[str]
    summaries: list[str]


def make_record(number: int) -> Record:
    """Record `number`, the same wherever it is made. Its text begins with its number."""
    random = np.random.default_rng(number)
    # Any finite, non-negative float16: noise, so that nothing on the way to a batch can save work on it.
    bits = random.integers(0, 0x7C00, size=ROI_SHAPE, dtype=np.uint16)
    language = LANGUAGES[number % len(LANGUAGES)]
    return Record(
        language=language,
        text=f"{number} " + _words(random, language, _TEXT_BYTES),
        summary=_words(random, language, _SUMMARY_BYTES),
        roi_IRV=bits.view(np.float16),
        boxes_IR4=np.sort(random.random(BOXES_SHAPE, dtype=np.float32), axis=-1),
    )


def check(batch: Delivered) -> None:
    """Raises `ValueError` where the batch is not, to the bit, what the records it names hold."""
    images, regions, width = ROI_SHAPE
    sound = (
        batch.features.shape == (BATCH, images * regions, width)
        and batch.boxes.shape == (BATCH, images * regions, 4)
        and batch.mask.shape == (BATCH, images)
        and bool(batch.mask.all())
        and len(batch.texts) == len(batch.summaries) == BATCH
    )
    for row in range(BATCH if sound else 0):
        wanted = make_record(int(batch.texts[row].split(" ", 1)[0]))
        sound = (
            sound
            and (batch.texts[row], batch.summaries[row]) == (wanted.text, wanted.summary)
            and np.array_equal(batch.features[row].numpy().reshape(ROI_SHAPE), wanted.roi_IRV)
            and np.array_equal(batch.boxes[row].numpy().reshape(BOXES_SHAPE), wanted.boxes_IR4)
        )
    if not sound:
        raise ValueError("a batch is not what its records hold")


def _words(random: np.random.Generator, language: str, size: int) -> str:
    """Words without meaning of about `size` bytes in UTF-8."""
    first, last = map(ord, _LETTERS[language])
    letters = random.integers(first, last + 1, size=size // len(chr(first).encode()))
    letters[random.random(len(letters)) < 0.17] = ord(" ")
    return "".join(map(chr, letters))
