"""Check a page: that it is well-formed, loads nothing, and says what it should."""

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.waiting import HANGING

_VOID = {"meta", "br", "hr", "img", "link", "input"}
_LOADING = {"script", "link", "iframe", "object", "embed", "use", "audio", "video", "source", "base"}


@dataclass(frozen=True, slots=True)
class Element:
    tag: str
    attributes: dict[str, str]
    text: list[str] = field(default_factory=list)  # of itself and all inside it

    @property
    def content(self) -> str:
        return "".join(self.text)


class Page(HTMLParser):
    """A page as its elements. Fails on a tag that is not closed, or closed without being open."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {[element.tag for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        element = self._open.pop()
        assert element.tag == tag, f"</{tag}> closes <{element.tag}>"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text.append(data)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if element.tag == tag and all(element.attributes.get(name) == value for name, value in attributes.items())
        ]

    def loads_nothing(self, *, own_script: bool = False) -> None:
        """No element, attribute or style that would fetch or run anything.

        Links that a person follows may be there, and images that are in the page themselves. own_script: one script
        may, that is in the page, and the policy allows no other.
        """
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        scripts = self.all("script")
        if own_script:
            digest = hashlib.sha256(scripts[0].content.encode()).digest()
            policy += f"; script-src 'sha256-{base64.b64encode(digest).decode()}'"
            assert [script.attributes for script in scripts] == [{}]
        for element in self.elements:
            assert element.tag not in _LOADING or (own_script and element.tag == "script"), element
            names = element.attributes.keys() - ({"src"} if element.tag == "img" else set())
            assert not [name for name in names if name.startswith("on") or name in ("src", "style")]
            target = element.attributes.get("href", "#")
            if element.tag in ("img", "image"):
                source = element.attributes.get("src", target)
                assert re.match(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*$", source), element
                continue
            assert target.startswith("#") or (element.tag == "a" and re.match(r"https?://", target)), element
        styles = "".join(element.content for element in self.all("style"))
        assert "url(" not in styles
        assert "@import" not in styles
        assert self.all("meta", content=policy)


def says_nothing_to_the_console(path: Path) -> None:
    """Open the page in a headless Chromium, where there is one: no error, no warning."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on PATH: the page was parsed, but not opened in a browser")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    try:
        done = subprocess.run([chromium, *arguments, path.as_uri()], capture_output=True, text=True, timeout=HANGING)
    except subprocess.TimeoutExpired:
        pytest.skip("chromium does not start here: the page was parsed, but not opened in a browser")
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "</html>" in done.stdout, done.stderr
