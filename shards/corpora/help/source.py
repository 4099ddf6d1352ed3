"""Make stories of the pages of a manual in many languages, such as GNOME's, in Debian's gnome-user-docs.

A story is a page. In each language its document is the page's running text, its summary the one-sentence
description that the page carries, both written by people. Documents are long, and most pages have no image:
what the emoji corpus lacks. Pages are Mallard, as LANGUAGE/DOCUMENT/PAGE.page.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shards.corpora import Opening
from shards.corpora.help.mallard import Page, read_page
from shards.corpora.help.pages import FIRST, folder_language, unfit
from shards.corpora.npm import RESNET, Package
from shards.corpora.pictures import Pictures, sequence_of
from shards.errors import InputError
from shards.format.manifest import SPLITS
from shards.format.writer import split_of
from shards.problems import Problems
from shards.schema import Article, Images, Story

_RASTER = (".png", ".jpg", ".jpeg", ".gif", ".webp")

#: Stories whose figures go through the network together.
_STORIES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """An article that was found: its page below the root, and where its figures really are."""

    language: str
    name: str
    figures: tuple[str, ...]


class HelpSource:
    """The help corpus as a `shards.corpora.Source`."""

    def __init__(self, opening: Opening) -> None:
        """Reads every page once, and keeps where those are that make an article.

        Figures that are kept beside their features (`opening.pixels`) and are neither PNG nor JPEG are kept as PNG.

        Raises: InputError when more than `opening.max_problems` are met.
        """
        listing = opening.listing
        assert listing is not None
        self.name = "help"
        self._root = listing.root
        self._pictures = Pictures(opening.cache, pixels=opening.pixels, noun="figure")
        self._found = Problems(limit=opening.max_problems)
        self._found.add(listing.problems)
        self._counts: dict[str, Counter[str]] = {}
        self._figures: Counter[str] = Counter()
        pages: dict[str, list[str]] = {}
        for name, _ in listing.files:
            pages.setdefault(name.partition("/")[2].removesuffix(".page"), []).append(name.partition("/")[0])
        self._documents = Counter(key.split("/")[0] for key in pages if "/" in key)
        self._others = sorted({f for folders in pages.values() for f in folders if folder_language(f) is None})
        self._entries: dict[str, tuple[_Entry, ...]] = {}
        for number, key in enumerate(sorted(pages)):
            if opening.progress:
                opening.progress("reading pages", number, len(pages))
            if entries := tuple(self._articles_of(key, pages[key])):
                self._entries[key] = entries
        self._keys: dict[str, list[str]] = {split: [] for split in SPLITS}
        for key in list(self._entries)[: opening.stories]:
            self._keys[split_of(key)].append(key)
        kept = [entry for keys in self._keys.values() for key in keys for entry in self._entries[key]]
        self.languages = tuple(sorted({entry.language for entry in kept}))
        self.packages: tuple[Package, ...] = (RESNET,) if any(entry.figures for entry in kept) else ()

    def stories(self, split: str) -> int:
        return len(self._keys[split])

    def load(self, split: str, start: int, stop: int, problems: Problems) -> Iterator[Story]:
        """See `Source`. Counted: "unreadable figure", "figure kept as PNG".

        Raises: InputError when a page is no longer what it was.
        """
        keys = self._keys[split][start:stop]
        for first in range(0, len(keys), _STORIES_AT_ONCE):
            chunk = {key: self._entries[key] for key in keys[first : first + _STORIES_AT_ONCE]}
            figures = sorted({figure for entries in chunk.values() for entry in entries for figure in entry.figures})
            pictures = self._pictures.read({Path(figure): Path(figure).name for figure in figures}, problems)
            for key, entries in chunk.items():
                articles = []
                for entry in entries:
                    try:
                        page = read_page(self._root / entry.name)
                    except ValueError as error:
                        raise InputError(f"{entry.name} changed while it was read ({error}): prepare again") from error
                    text = "\n".join(page.paragraphs)
                    articles.append(
                        Article(language=entry.language, text=text, summary=page.summary, url=f"help:{entry.name}")
                    )
                shared, own = _images(entries, pictures)
                yield Story(key=key, articles=tuple(articles), shared_images=shared, images=own)

    def problems(self) -> Problems:
        """Return the problems of opening. Counted: "page is not XML", "missing figure"."""
        return self._found

    def provenance(self) -> dict[str, Any]:
        """Return the manuals, and the counts of pages by language.

        Of a language's `pages`, some are `not_xml`, some are `without_text` (nothing but headings and links) or
        `without_summary`, some are `untranslated`; that leaves `articles`. `other_languages` are folders of languages
        that are not ours. `figures`: `raster` ones are images, `skipped` are drawings and the like.
        """
        return {
            "corpus": self.name,
            "documents": dict(sorted(self._documents.items())),
            "features": self._pictures.describe() if self.packages else None,
            "stories": len(self._entries),
            "stories_with_images": sum(any(e.figures for e in entries) for entries in self._entries.values()),
            "languages": {
                language: {
                    what: self._counts[language][what]
                    for what in ("pages", "not_xml", "without_text", "without_summary", "untranslated", "articles")
                }
                for language in sorted(self._counts)
            },
            "other_languages": self._others,
            "figures": {"raster": self._figures["raster"], "skipped": self._figures["skipped"]},
        }

    def _articles_of(self, key: str, folders: Sequence[str]) -> Iterator[_Entry]:
        """Return the page `key` in each language that has a translation of it, by language."""
        by_language: dict[str, list[str]] = {}
        for folder in sorted(folders, key=lambda f: (f not in FIRST, len(f), f)):
            if language := folder_language(folder):
                by_language.setdefault(language, []).append(folder)
        english: Page | None = None
        # English first: the others are compared with it.
        for language in sorted(by_language, key=lambda language: (language != "english", language)):
            counts = self._counts.setdefault(language, Counter())
            counts["pages"] += 1
            reasons = []
            for folder in by_language[language]:
                name = f"{folder}/{key}.page"
                try:
                    page = read_page(self._root / name)
                except ValueError as error:
                    self._found.count("page is not XML", f"{name}: {error}")
                    continue
                if language == "english":
                    english = english or page
                reasons.append(unfit(page, english if language != "english" else None))
                if reasons[-1] is None:
                    counts["articles"] += 1
                    yield _Entry(language=language, name=name, figures=self._resolve(name, page))
                    break
            else:
                counts[reasons[0] if reasons and reasons[0] else "not_xml"] += 1

    def _resolve(self, name: str, page: Page) -> tuple[str, ...]:
        """Return real paths of the page's images: in its own folder, else in the English one. Drawings are skipped."""
        folder, _, rest = name.partition("/")
        found: list[str] = []
        for src in dict.fromkeys(page.figures):
            if PurePosixPath(src).suffix.lower() not in _RASTER:
                self._figures["skipped"] += 1
                continue
            places = [self._root / each / Path(rest).parent / src for each in (folder, "C", "en")]
            real = next((str(place.resolve()) for place in places if place.is_file()), None)
            if real is None:
                self._found.count("missing figure", f"{name}: {src}")
            elif real not in found:
                self._figures["raster"] += 1
                found.append(real)
        return tuple(found)


def _images(
    entries: Sequence[_Entry], pictures: Mapping[Path, Images]
) -> tuple[Images | None, dict[str, Images] | None]:
    """Return the images that a story's articles share, and those of the articles that have others."""
    figures = {entry.language: tuple(f for f in map(Path, entry.figures) if f in pictures) for entry in entries}
    made = {each: sequence_of([pictures[figure] for figure in each]) for each in figures.values() if each}
    if not made:
        return None, None
    # Most translations show the English figures, which are then stored once.
    common = Counter(figures.values()).most_common(1)[0][0] if all(figures.values()) else ()
    own = {language: made[each] for language, each in figures.items() if each and each != common}
    return made.get(common), own or None
