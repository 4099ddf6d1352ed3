"""List the kinds of perturbations with their strengths, and parse `--perturb`.

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
#: Strength of each severity, in the kind's unit.
_CHARACTERS = (0.02, 0.05, 0.1, 0.2, 0.3)
_WORDS = (0.05, 0.1, 0.2, 0.3, 0.4)
_SENTENCES = (0.1, 0.2, 0.3, 0.4, 0.5)
_ALL_THE_WAY = (0.2, 0.4, 0.6, 0.8, 1.0)
_NOISE = (0.1, 0.25, 0.5, 1.0, 2.0)

#: Families that act on images.
_OF_IMAGES = frozenset({"features", "pixels"})
#: Source of a score -> the kinds that exchange it for another story's, and that take it away.
SOURCES: dict[str, tuple[str, str]] = {
    "document": ("wrong_document", "no_document"),
    "images": ("wrong_images", "no_images"),
}
#: The word for all of these.
_SOURCES = "sources"

#: From a text, its language and a strength to the perturbed text.
TextChange = Callable[[str, str, float, random.Random], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of perturbation.

    what: its description.  unit: of its strengths, one a severity.
    change: of a text by itself.  covers: returns True for a language that it applies to.
    """

    name: str
    family: str
    what: str
    unit: str
    strengths: tuple[float, ...]
    change: TextChange | None
    covers: Callable[[str], bool]

    @property
    def is_text(self) -> bool:
        return self.family not in _OF_IMAGES

    @property
    def takes_stories(self) -> bool:
        """Return True if the strength is a share of the stories, which lose their document or images."""
        return any(self.name in names for names in SOURCES.values())

    @property
    def changes_features(self) -> bool:
        """Return True if it changes nothing but features."""
        return self.family == "features" and not self.takes_stories

    def takes_all(self, severity: int) -> bool:
        """Return True if no story keeps its document (or images) at this severity."""
        return self.takes_stories and self.strength(severity) == 1

    def strength(self, severity: int) -> float:
        return self.strengths[severity - 1]


_CHARACTER, _WORD, _SENTENCE = "share of characters", "share of words", "share of sentences"


def _kind(
    family: str,
    name: str,
    what: str,
    unit: str,
    strengths: tuple[float, ...],
    change: TextChange | None = None,
    covers: Callable[[str], bool] = lambda language: True,
) -> Kind:
    return Kind(family=family, name=name, what=what, unit=unit, strengths=strengths, change=change, covers=covers)


def _character(name: str, what: str, change: TextChange, **more: Callable[[str], bool]) -> Kind:
    return _kind("character", name, what, _CHARACTER, _CHARACTERS, change, **more)


def _word(name: str, what: str, change: TextChange) -> Kind:
    return _kind("word", name, what, _WORD, _WORDS, change)


_KINDS = (
    _character("keyboard", "a key beside the right one", character.keyboard, covers=character.has_keyboard),
    _character("ocr", "what looks like it in print", character.ocr),
    _character("char_insert", "another of the same text behind a character", character.insert),
    _character("char_replace", "another of the same text in place of a character", character.replace),
    _character("char_swap", "neighbours in a word change places", character.swap),
    _character("char_delete", "characters are left out", character.delete),
    _word("word_insert", "another of the same text behind a word", word.insert),
    _word("word_swap", "neighbours change places", word.swap),
    _word("word_delete", "words are left out", word.delete),
    _word("word_mask", "a low line in place of a word", word.mask),
    _kind("sentence", "sentence_shuffle", "sentences change places", _SENTENCE, _ALL_THE_WAY, sentence.shuffle),
    _kind("sentence", "sentence_drop", "sentences are left out", _SENTENCE, _SENTENCES, sentence.drop),
    _kind("document", "wrong_document", "another story's document", "share of stories", _ALL_THE_WAY),
    _kind("document", "no_document", "no document", "share of stories", _ALL_THE_WAY),
    _kind("features", "feature_noise", "Gaussian noise on the features", "standard deviations of an image", _NOISE),
    _kind("features", "region_drop", "regions show nothing", "share of an image's regions", _ALL_THE_WAY),
    _kind("features", "region_shuffle", "regions are elsewhere", "share of an image's regions", _ALL_THE_WAY),
    _kind("features", "wrong_images", "another story's images", "share of stories", _ALL_THE_WAY),
    _kind("features", "no_images", "no images", "share of stories", _ALL_THE_WAY),
    *(
        _kind("pixels", name, f"{name.replace('_', ' ')} on the pictures", "severity of imagecorruptions", SEVERITIES)
        for name in CORRUPTIONS
    ),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
FAMILIES = tuple(dict.fromkeys(kind.family for kind in _KINDS))


def parse_kinds(text: str) -> tuple[list[Kind], set[str]]:
    """Return the kinds that `text` names (all, text, vision, sources, families, kinds), and those named singly.

    Raises `InputError`.
    """
    wanted: set[str] = set()
    named: set[str] = set()
    for word_ in (part.strip() for part in text.split(",")):
        if word_ in KINDS:
            named.add(word_)
        elif word_ == _SOURCES:
            wanted |= {name for names in SOURCES.values() for name in names}
        elif word_ in ("all", "text", "vision", *FAMILIES):
            wanted |= {
                kind.name
                for kind in _KINDS
                if word_ in ("all", kind.family) or word_ == ("text" if kind.is_text else "vision")
            }
        else:
            known = ["all", "text", "vision", _SOURCES, *FAMILIES, *KINDS]
            raise InputError(f"--perturb {word_!r} is no perturbation{did_you_mean(word_, known)}: {', '.join(known)}")
    return [kind for kind in _KINDS if kind.name in wanted | named], named


def parse_severities(text: str) -> list[int]:
    """Return severities such as `1,3,5` in ascending order. `InputError` for any that is not from 1 to 5."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part in {str(severity) for severity in SEVERITIES} for part in parts):
        raise InputError(f"--severities {text}: give numbers from 1 to 5, e.g. --severities 1,3,5")
    return sorted({int(part) for part in parts})
