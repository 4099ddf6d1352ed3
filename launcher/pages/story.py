"""The page of `d2tv preview`: one story, its articles, edges and image regions."""

import numpy as np

from launcher.pages import matrix, regions
from launcher.pages.page import escape, page
from launcher.pages.writing import written_in
from launcher.preview import StoryView

_STYLE = (
    matrix.STYLE
    + regions.STYLE
    + """
nav { display: flex; flex-wrap: wrap; gap: .25rem .75rem; margin: .75rem 0; }
article { border: 1px solid var(--line); border-radius: 6px; margin: 1rem 0; padding: .75rem 1rem; }
article header { display: flex; flex-wrap: wrap; gap: 0 1rem; align-items: baseline; }
.summary { font-weight: 600; } .text, .summary { white-space: pre-wrap; margin: .5rem 0; }
"""
)


def story_page(view: StoryView) -> str:
    """The whole document. Everything that comes from the corpus is escaped; nothing is loaded."""
    languages = [article.language for article in view.articles]
    toc = "".join(f'<a href="#{escape(language)}">{escape(language)}</a>' for language in languages)
    body = [
        f'<h1><bdi dir="auto">{escape(view.name)}</bdi></h1>',
        f'<p class="soft">story {view.number:,} of {escape(view.location)} · {escape(view.shard)} · key '
        f'<code dir="ltr">{escape(view.key)}</code></p>',
        f"<nav>{toc}</nav>",
        _images(view),
        *(_article(view, place) for place in range(len(view.articles))),
        _edges(view, languages),
    ]
    return page(f"{view.name} – d2tv preview", "\n".join(body), _STYLE)


def _article(view: StoryView, place: int) -> str:
    article = view.articles[place]
    attributes = written_in(article.language)
    url = f'<bdi dir="ltr">{escape(article.url)}</bdi>'
    if article.url.startswith(("http://", "https://")):
        url = f'<a href="{escape(article.url)}" rel="noopener noreferrer">{url}</a>'
    sequence = next((n for n, each in enumerate(view.sequences, 1) if article.language in each.languages), None)
    images = f"image sequence {sequence}" if sequence else "no images"
    return (
        f'<article id="{escape(article.language)}"><header><h3>{escape(article.language)}</h3>'
        f'<span class="soft">{len(article.text):,} characters, summary {len(article.summary):,} · {images}</span>'
        f'</header><p class="soft">{url}</p><p class="summary" {attributes}>{escape(article.summary)}</p>'
        f'<p class="text" {attributes}>{escape(article.text)}</p></article>'
    )


def _images(view: StoryView) -> str:
    if not view.sequences:
        return "<h2>Images</h2><p>None.</p>"
    kept = any(sequence.images.pixels for sequence in view.sequences)
    told = "Each box is" if kept else "The corpus keeps features of regions, no pixels: each box is"
    parts = [
        f'<h2>Images</h2><p class="soft">{told} where a region lies, its colour the first three principal components '
        "of the features of all of them.</p>"
    ]
    drawn = regions.colours([sequence.images.roi_IRV for sequence in view.sequences])
    for number, (sequence, colours) in enumerate(zip(view.sequences, drawn, strict=True), 1):
        roi_IRV, boxes_IR4 = sequence.images.roi_IRV, sequence.images.boxes_IR4
        pictures: list[regions.Picture | None] = [None] * len(roi_IRV)
        if sequence.images.pixels:
            files = zip(sequence.images.pixels, sequence.sizes, strict=True)
            pictures = [regions.Picture(file=file, size=size) for file, size in files]
        whose = "all articles" if len(sequence.languages) == len(view.articles) else ", ".join(sequence.languages)
        parts.append(f"<h3>Sequence {number}: {escape(whose)}</h3>")
        figures = [
            regions.canvas(
                roi_IRV[image], boxes_IR4[image], colours[image], f"image {image + 1} of {len(roi_IRV)}", picture
            )
            for image, picture in enumerate(pictures)
        ]
        parts.append(f'<div class="images">{"".join(figures)}</div>')
    return "\n".join(parts)


def _edges(view: StoryView, languages: list[str]) -> str:
    there = set(view.edges)
    possible = len(languages) ** 2
    if len(there) == possible:
        told = f"All {possible:,} directions between its articles are examples, each article to itself included."
    else:
        told = f"{len(there):,} of the {possible:,} directions between its articles are examples."
    is_there = np.array([[(source, target) in there for source in languages] for target in languages], np.int64)

    def tip(target: int, source: int) -> str:
        return f"{languages[source]} → {languages[target]}: {'an example' if is_there[target, source] else 'none'}"

    picture = matrix.matrix(languages, is_there, tip, "the story's directions")
    return (
        f'<h2>Directions</h2><p>{told}</p><p class="soft">A row is a target language, a column a source language.</p>'
        f"{picture}"
    )
