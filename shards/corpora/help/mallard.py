"""Read a page of Mallard, the XML of GNOME's help: its running text, its description, its figures."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MALLARD = "{http://projectmallard.org/1.0/}"
_CONDITIONS = "{http://projectmallard.org/if/1.0/}"

#: Elements that hold one paragraph each. Section and table headings belong to the text; the page's title does not.
_HEADINGS = frozenset({"title", "subtitle"})
_PARAGRAPHS = _HEADINGS | {"p", "screen", "code"}
#: Elements that are no running text: licences, credits and links between pages, editors' comments, what stands in
#: for a figure that is not shown, the summary of a figure.
_SKIPPED = frozenset({"info", "links", "comment", "cite", "media", "desc"})
#: Elements with a condition. (Any other may have one in an attribute.)
_CONDITIONAL = frozenset({"if:if", "if:when"})
#: Elements within elements. Real pages have a dozen; reading takes a few Python calls for each.
_DEEPEST = 100
#: What a reader sees between the parts of a key combination and of a path through menus.
_JOINED = {"keyseq": "+", "guiseq": " ▸ "}


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """summary: the page's one-sentence description, or "".  paragraphs: its text, headings included; none where it
    has headings alone.  figures: paths of its images, as the page writes them, in order."""

    summary: str
    paragraphs: tuple[str, ...]
    figures: tuple[str, ...]


def read_page(path: Path) -> Page:
    """Parse a page. Entities beyond XML's own and external ones are not resolved.

    Raises: ValueError when it is not XML, in an encoding that is not known, or nested beyond use; OSError when it
        cannot be read.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from error
    if _depth(root) > _DEEPEST:
        raise ValueError(f"elements nested more than {_DEEPEST} deep")
    summary = next((_text(desc) for info in _children(root, "info") for desc in _children(info, "desc")), "")
    # The root's own title is the page's.
    blocks = [block for child in _inside(root) if _name(child) != "title" for block in _blocks(child)]
    paragraphs = [text for block in blocks if (text := _text(block))]
    if all(_name(block) in _HEADINGS for block in blocks):
        paragraphs = []
    figures = (
        media.get("src", "")
        for child in _inside(root)
        for media in _shown(child)
        if _name(media) == "media" and media.get("type", "image") == "image"
    )
    return Page(summary=summary, paragraphs=tuple(paragraphs), figures=tuple(src for src in figures if src))


def _depth(root: ElementTree.Element) -> int:
    """Return how deep elements are nested, at most `_DEEPEST` + 1."""
    depth, level = 0, [root]
    while level and depth <= _DEEPEST:
        depth, level = depth + 1, [child for element in level for child in element]
    return depth


def _name(element: ElementTree.Element) -> str:
    """Return the element's name: Mallard's without a namespace, "if:choose" and the like, else ""."""
    if not isinstance(element.tag, str):  # a comment or a processing instruction
        return ""
    if element.tag.startswith(_MALLARD):
        return element.tag.removeprefix(_MALLARD)
    if element.tag.startswith(_CONDITIONS):
        return "if:" + element.tag.removeprefix(_CONDITIONS)
    return ""


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _name(child) == name)


def _inside(element: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the element's children, as a plain reader sees them: of alternatives the first whose condition holds.

    Without this a page says everything twice, for GNOME and for GNOME classic.
    """
    kept = [child for child in element if _holds(child)]
    return kept[:1] if _name(element) == "if:choose" else kept


def _holds(element: ElementTree.Element) -> bool:
    """Return True if the element's condition holds where no platform, device or action is given.

    "a b" asks for both, "a,b" for one of them, "!a" for the absence of a.
    """
    test = element.get(_CONDITIONS + "test") or (element.get("test") if _name(element) in _CONDITIONAL else None)
    if test is None:
        return True
    return any(all(word.startswith("!") for word in each.split()) for each in test.split(","))


def _shown(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Yield the element and all within it, less what only another reader would see."""
    yield element
    if _name(element) != "info":
        for child in _inside(element):
            yield from _shown(child)


def _blocks(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    name = _name(element)
    if name in _PARAGRAPHS:
        yield element
    elif name and name not in _SKIPPED:
        for child in _inside(element):
            yield from _blocks(child)


def _text(element: ElementTree.Element) -> str:
    """Return the text within, its white space made single spaces."""
    return " ".join(_raw(element).split())


def _raw(element: ElementTree.Element) -> str:
    shown = [child for child in _inside(element) if _name(child) not in _SKIPPED]
    joint = _JOINED.get(_name(element))
    if joint is not None:
        return joint.join(piece for child in shown if (piece := _raw(child).strip()))
    return (element.text or "") + "".join(
        (_raw(child) if child in shown else "") + (child.tail or "") for child in element
    )
