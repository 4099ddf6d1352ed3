"""Show one story, its articles, edges and image regions: the page of `d2tv preview`."""

from dataclasses import dataclass

from launcher.pages.matrix import by_pair, heat_map
from launcher.pages.regions import canvases, colours
from launcher.pages.templates import render
from shards.schema import Article, Images, Variant
from trainer.runs.words import count


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSequence:
    """Images and the languages whose articles have them; sizes: width and height of each file, where files are kept."""

    languages: tuple[str, ...]
    images: Images
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryView:
    """A story as it lies in the corpus.

    key: as stored, percent-encoded.  name: as a person wrote it, as far as it was kept.
    edges: (source, target) pairs of its split.
    """

    location: str
    number: int
    key: str
    name: str
    split: str
    shard: str
    articles: tuple[Article, ...]
    variants: tuple[Variant, ...]
    sequences: tuple[ImageSequence, ...]
    edges: tuple[tuple[str, str], ...]


def story_page(view: StoryView) -> str:
    """Return the page of a story."""
    languages = [article.language for article in view.articles]
    edges = dict.fromkeys(view.edges, 1.0)

    def tip(target: int, source: int) -> str:
        pair = (languages[source], languages[target])
        return f"{pair[0]} → {pair[1]}: {'an example' if pair in edges else 'none'}"

    drawn = colours([sequence.images.roi_IRV for sequence in view.sequences]) if view.sequences else []
    return render(
        "story.html.jinja",
        title=f"{view.name} – d2tv preview",
        view=view,
        languages=languages,
        kept=any(sequence.images.pixels for sequence in view.sequences),
        sequences=[
            (
                "all articles" if len(one.languages) == len(view.articles) else ", ".join(one.languages),
                canvases(one.images, one.sizes, of_sequence, count=True),
            )
            for one, of_sequence in zip(view.sequences, drawn, strict=True)
        ],
        sequence_of={name: number for number, one in enumerate(view.sequences, 1) for name in one.languages},
        edges=len(edges),
        map=heat_map(languages, by_pair(languages, edges, 0.0), tip, "the story's directions", count),
    )
