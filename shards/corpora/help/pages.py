"""Find the Mallard pages of a manual, their languages, and those that make an article."""

import re
from pathlib import Path

from shards.corpora.help.mallard import Page
from shards.corpora.listing import Listing, list_files
from shards.errors import InputError
from shards.languages import find_language
from shards.problems import Problems
from shards.text.lines import has_text

#: Where systems keep the help of their programs, and the two manuals there that are gnome-user-docs.
SYSTEM_PAGES = Path("/usr/share/help")
DOCUMENTS = ("gnome-help", "system-admin-guide")

#: A page is untranslated, and left out, when its summary is the English one or when more than this share of its text
#: (in characters) is paragraphs of the English page: then most of it is not in its language.
UNTRANSLATED_SHARE = 0.5

#: Folders that are not named by their language's code alone.
_FOLDERS = {
    "C": "english",
    "sr@latin": "serbian_latin",
}
#: Where two folders are one language: which is asked first for a page. The others are asked by name.
FIRST = ("C", "pt_BR")

#: A page that is compressed, or an editor's copy.
_PAGE_LIKE = re.compile(r"\.page\W", re.IGNORECASE)


def list_pages(data: Path | None) -> Listing:
    """List the pages below `data`, or those of the system's gnome-user-docs.

    Counted, below `data`: "unknown file name", a page that is not LANGUAGE/DOCUMENT/*.page, or is compressed.

    Raises: InputError when there are none.
    """
    root = data or SYSTEM_PAGES
    if data is None and not root.is_dir():
        raise InputError(
            f"{root} is missing: `apt install gnome-user-docs`, or name a directory of pages with --data DIR"
        )
    listing = list_files(root, (".page",), lambda name: "unknown file name" if _PAGE_LIKE.search(name) else None)
    files = []
    for name, size in listing.files:
        if name.count("/") < 1 or not name.endswith(".page"):
            listing.problems.count("unknown file name", name)
        elif data is not None or name.split("/")[1] in DOCUMENTS:
            files.append((name, size))
    if not any(folder_language(name.split("/")[0]) for name, _ in files):
        raise InputError(
            f"no Mallard page as LANGUAGE/DOCUMENT/*.page below {root}: `apt install gnome-user-docs`, "
            "or name a directory that holds some with --data DIR"
        )
    # Problems of the system's other manuals do not matter.
    return Listing(root=root, files=tuple(files), problems=Problems() if data is None else listing.problems)


def folder_language(folder: str) -> str | None:
    """Return the language of a folder named as a locale ("C", "pt_BR", "sr@latin"); None for one that is not ours."""
    if folder in _FOLDERS:
        return _FOLDERS[folder]
    place, _, script = folder.partition("@")
    if script not in ("", "cyrillic"):  # English in Shavian, Catalan of Valencia
        return None
    return find_language(place) or find_language(place.partition("_")[0])


def unfit(page: Page, english: Page | None) -> str | None:
    """Return why the page makes no article, as in the provenance; None when it does."""
    if not any(map(has_text, page.paragraphs)):
        return "without_text"
    if not has_text(page.summary):
        return "without_summary"
    if english is not None:
        originals = set(english.paragraphs)
        same = sum(len(paragraph) for paragraph in page.paragraphs if paragraph in originals)
        if page.summary == english.summary or same > UNTRANSLATED_SHARE * sum(map(len, page.paragraphs)):
            return "untranslated"
    return None
