"""The kinds of perturbations by name, what they act on and how strong they are; which ones a person means.

After MMRobustness (Qiu et al., "Benchmarking Robustness of Multimodal Image-Text Models under Distribution Shift",
DMLR 2024): families, five severities and the kinds that exist in any of the 45 languages and on region features. Left
out are its paraphrases (synonyms, back translation, style), which need a model a language.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from shards.errors import InputError, did_you_mean
from trainer.evaluation.robustness import character, sentence, word
from trainer.evaluation.robustness.corruptions import CORRUPTIONS

SEVERITIES = (1, 2, 3, 4, 5)
#: How strong each severity is; what the number is of, the kind says.
_CHARACTERS = (0.02, 0.05, 0.1, 0.2, 0.3)
_WORDS = (0.05, 0.1, 0.2, 0.3, 0.4)
_SENTENCES = (0.1, 0.2, 0.3, 0.4, 0.5)
_ALL_THE_WAY = (0.2, 0.4, 0.6, 0.8, 1.0)
_NOISE = (0.1, 0.25, 0.5, 1.0, 2.0)

#: From a text, its language and a strength to the perturbed text.
TextChange = Callable[[str, str, float, random.Random], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """what: what it does.  unit: what its strengths, one a severity, are.

    change: of a text.  covers: whether it can be done in a language.
    """

    name: str
    family: str
    what: str
    unit: str
    strengths: tuple[float, ...]
    change: TextChange | None = None
    covers: Callable[[str], bool] = lambda language: True

    @property
    def is_text(self) -> bool:
        return self.change is not None

    def strength(self, severity: int) -> float:
        return self.strengths[severity - 1]


def _text(
    family: str, function: TextChange, name: str, unit: str, strengths: tuple[float, ...], **more: Callable[[str], bool]
) -> Kind:
    what = (function.__doc__ or "").strip().split("\n")[0]
    return Kind(name=name, family=family, what=what, unit=unit, strengths=strengths, change=function, **more)


_CHARACTER, _WORD, _SENTENCE = "share of characters", "share of words", "share of sentences"
_KINDS = (
    _text("character", character.keyboard, "keyboard", _CHARACTER, _CHARACTERS, covers=character.has_keyboard),
    _text("character", character.ocr, "ocr", _CHARACTER, _CHARACTERS),
    _text("character", character.insert, "char_insert", _CHARACTER, _CHARACTERS),
    _text("character", character.replace, "char_replace", _CHARACTER, _CHARACTERS),
    _text("character", character.swap, "char_swap", _CHARACTER, _CHARACTERS),
    _text("character", character.delete, "char_delete", _CHARACTER, _CHARACTERS),
    _text("word", word.insert, "word_insert", _WORD, _WORDS),
    _text("word", word.swap, "word_swap", _WORD, _WORDS),
    _text("word", word.delete, "word_delete", _WORD, _WORDS),
    _text("word", word.mask, "word_mask", _WORD, _WORDS),
    _text("sentence", sentence.shuffle, "sentence_shuffle", _SENTENCE, _ALL_THE_WAY),
    _text("sentence", sentence.drop, "sentence_drop", _SENTENCE, _SENTENCES),
    Kind(
        name="feature_noise",
        family="features",
        what="Gaussian noise on every region's features.",
        unit="standard deviations of the image's features",
        strengths=_NOISE,
    ),
    Kind(
        name="region_drop",
        family="features",
        what="Regions show nothing: their features are 0.",
        unit="share of an image's regions",
        strengths=_ALL_THE_WAY,
    ),
    Kind(
        name="region_shuffle",
        family="features",
        what="Regions have each other's features, boxes stay.",
        unit="share of an image's regions",
        strengths=_ALL_THE_WAY,
    ),
    Kind(
        name="wrong_images",
        family="features",
        what="The images of another story of the split.",
        unit="share of stories",
        strengths=_ALL_THE_WAY,
    ),
    Kind(
        name="no_images",
        family="features",
        what="No images.",
        unit="share of stories",
        strengths=_ALL_THE_WAY,
    ),
    *(
        Kind(
            name=name,
            family="pixels",
            what=f"{name.replace('_', ' ')} on the picture, features made anew.".capitalize(),
            unit="imagecorruptions' severity",
            strengths=(1, 2, 3, 4, 5),
        )
        for name in CORRUPTIONS
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
FAMILIES = tuple(dict.fromkeys(kind.family for kind in _KINDS))


def parse_kinds(text: str) -> tuple[list[Kind], set[str]]:
    """What `text` names, in the order of the table: all, text, vision, families, kinds; and what it names by its name.

    Raises `InputError`.
    """
    wanted: set[str] = set()
    named: set[str] = set()
    for word_ in (part.strip() for part in text.split(",")):
        if word_ in KINDS:
            named.add(word_)
        elif word_ in ("all", "text", "vision", *FAMILIES):
            wanted |= {
                kind.name
                for kind in _KINDS
                if word_ in ("all", kind.family) or word_ == ("text" if kind.is_text else "vision")
            }
        else:
            known = ["all", "text", "vision", *FAMILIES, *KINDS]
            raise InputError(f"--perturb {word_!r} is no perturbation{did_you_mean(word_, known)}: {', '.join(known)}")
    return [kind for kind in _KINDS if kind.name in wanted | named], named


def parse_severities(text: str) -> list[int]:
    """`1,3,5` in ascending order. `InputError` for anything that is not from 1 to 5."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part in {str(severity) for severity in SEVERITIES} for part in parts):
        raise InputError(f"--severities {text}: give numbers from 1 to 5, e.g. --severities 1,3,5")
    return sorted({int(part) for part in parts})
