"""The page of `d2tv inspect`: one corpus, one split, one mixture, every number of them."""

from pathlib import Path

from launcher.inspection.facts import SAMPLE, CorpusFacts, Direction, MixtureFacts
from launcher.inspection.views import mixture_lines, percent, pixels_line
from launcher.pages import matrix
from launcher.pages.page import escape, page, table, write_page

_STYLE = (
    matrix.STYLE
    + """
.key { display: inline-flex; align-items: center; gap: .3rem; margin-right: .8rem; }
.keys svg { display: inline-block; } .bar { fill: var(--accent); }
"""
)


def write_corpus_page(path: Path, facts: CorpusFacts, mixture: MixtureFacts | None) -> None:
    """Write the page; `InputError` where it cannot be written."""
    title = f"{facts.name or facts.location}: {facts.split}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(facts.location)} · {len(facts.languages)} languages · content hash '
        f"<code>{escape(facts.content_hash)}</code></p>",
        table(
            ["split", "stories", "articles", "examples", "directions"],
            [[split, *(f"{number:,}" for number in numbers)] for split, numbers in facts.totals.items()],
        ),
    ]
    if mixture is None:
        parts.append(f"<p>{escape(facts.split)} has no examples: there is no direction to show and nothing to mix.</p>")
    else:
        parts += [_directions(facts, mixture), _mixture(facts, mixture)]
    parts += [_languages(facts, mixture), _images(facts)]
    write_page(path, page(f"d2tv inspect {title}", "\n".join(parts), _STYLE))


def _tip(facts: CorpusFacts, mixture: MixtureFacts, target: int, source: int) -> str:
    return (
        f"{facts.names[source]} → {facts.names[target]}: {facts.counts_TS[target, source]:,} examples, share "
        f"{percent(mixture.shares_TS[target, source])}, {mixture.passes_TS[target, source]:.3g} passes"
    )


def _directions(facts: CorpusFacts, mixture: MixtureFacts) -> str:
    label = f"examples of {facts.split} by direction"
    return "\n".join(
        [
            f"<h2>{escape(label.capitalize())}</h2>",
            '<p class="soft">A row is a target language, a column a source language. Point at a cell for its numbers; '
            "colours go in equal ratios.</p>",
            matrix.matrix(facts.names, facts.counts_TS, lambda t, s: _tip(facts, mixture, t, s), label),
            matrix.legend(facts.counts_TS, lambda value: f"{value:,.0f}"),
        ]
    )


def _mixture(facts: CorpusFacts, mixture: MixtureFacts) -> str:
    def rows(directions: tuple[Direction, ...]) -> list[list[str]]:
        return [
            [f"{d.source} → {d.target}", f"{d.examples:,}", percent(d.share), f"{d.passes:.3g}"] for d in directions
        ]

    label = "passes over each direction's examples in an epoch-equivalent"
    lines = "".join(f"<p>{escape(line)}.</p>" for line in mixture_lines(mixture, facts.split))
    return "\n".join(
        [
            "<h2>What the mixture makes of them</h2>",
            lines,
            f'<p class="soft">{escape(label.capitalize())}:</p>',
            matrix.matrix(facts.names, mixture.passes_TS, lambda t, s: _tip(facts, mixture, t, s), label),
            matrix.legend(mixture.passes_TS, lambda value: f"{value:.3g}"),
            *(
                f"<h3>{title}</h3>" + table(["direction", "examples", "share", "passes"], rows(directions))
                for title, directions in (
                    ("The rarest", mixture.rarest),
                    ("The commonest", mixture.commonest),
                    ("The most passes", mixture.most_passes),
                )
            ),
        ]
    )


def _languages(facts: CorpusFacts, mixture: MixtureFacts | None) -> str:
    heading, groups = ["language", "code", "articles", "as source", "as target"], [("", 3), ("examples", 2)]
    if mixture is not None:
        heading.append("as target")
        groups.append(("share", 1))
    heading += ["median", "95%", "longest"] * 2
    groups += [("document", 3), ("summary", 3)]
    rows = []
    for place, language in enumerate(facts.languages):
        row = [
            language.name,
            language.code,
            f"{language.articles:,}",
            f"{facts.counts_TS[:, place].sum():,}",
            f"{facts.counts_TS[place].sum():,}",
        ]
        if mixture is not None:
            row.append(f"{mixture.shares_TS[place].sum():.2%}")
        for of in (language.document, language.summary):
            row += [f"{of.median:,}", f"{of.most:,}", f"{of.longest:,}"]
        rows.append(row)
    sample = f" of {SAMPLE} articles a language, drawn at random, and of the longest" if facts.sampled else ""
    return (
        f'<h2>Languages</h2><p class="soft">Lengths are characters{sample}. A story has at most one article in a '
        f"language, so articles are stories too.</p>{table(heading, rows, groups)}"
    )


def _images(facts: CorpusFacts) -> str:
    most, height = max(int(facts.images.max()), 1), 120
    bars = []
    for images, count in enumerate(facts.images.tolist()):
        tall = height * count / most
        tip = f"{images} images: {count:,} articles"
        bars.append(
            f'<g><title>{escape(tip)}</title><rect class="bar" x="{60 * images + 8}" y="{height + 16 - tall:.1f}" '
            f'width="44" height="{tall:.1f}"></rect>'
            f'<text class="number" x="{60 * images + 30}" y="{height + 12 - tall:.1f}" text-anchor="middle">{count:,}'
            f'</text><text x="{60 * images + 30}" y="{height + 32}" text-anchor="middle">{images}</text></g>'
        )
    width = 60 * len(facts.images) + 8
    return (
        f'<h2>Images an article</h2><div class="wide"><svg role="img" aria-label="articles by their number of images" '
        f'width="{width}" height="{height + 40}" viewBox="0 0 {width} {height + 40}">{"".join(bars)}</svg></div>'
        f"<p>{escape(pixels_line(facts).capitalize())}.</p>"
    )
