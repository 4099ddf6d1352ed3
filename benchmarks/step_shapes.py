"""Define what `benchmarks.step` trains: the networks' shapes and the batches' lengths.

Everything follows from seeds: no files, no tokenizer, no corpus. Shape suffixes as in shards/schema.py.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import FusionConfig, NetworkConfig, TextConfig, VisionConfig
from models.synthetic import EOS_ID, FIRST_WORD, PAD_ID, random_batch
from shards.batch.types import Batch

SHAPES = ("tiny", "mt5-small", "mt5-base", "mbart-50")
#: Regimes of lengths: all of everything, or what a corpus has.
REGIMES = ("full", "real")
IMAGES, REGIONS, FEATURES = 5, 36, 2048
LANGUAGES = 44
#: Sources that a target article comes with where a batch is made of stories.
SOURCES = 4

#: Tokens at the deciles, smallest and largest included, of 2,016 training examples of the help corpus (348 manual
#: pages, `d2tv prepare help`; its own SentencePiece model of 8,000 pieces, cut to 512 and 84 tokens).
HELP_DOCUMENT = (37, 130, 175, 226, 278, 333, 389, 479, 512, 512, 512)
HELP_SUMMARY = (5, 13, 16, 19, 22, 24, 27, 31, 36, 46, 84)
#: Share of examples with 0, 1, 2, .. images, of 2,016 training examples of the emoji corpus (`d2tv prepare emoji`):
#: 3.6 on average, where M3Sum has 3.2 images an article and the help corpus almost none.
EMOJI_IMAGES = (0.0977, 0.0005, 0.0, 0.0233, 0.8785)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Lengths to pad texts to, where they are padded, and the longest of them."""

    document: int
    summary: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Tokens of the texts and number of images of one example, and what it is an example of."""

    source: int
    target: int
    summary: int
    images: int
    story: int
    source_language: int
    target_language: int
    group: int = 0


def network_config(shape: str) -> NetworkConfig:
    """The network of a shape, random weights, dropout 0.1 everywhere. Vision as in the paper, but for `tiny`."""
    if shape == "tiny":
        return NetworkConfig(
            text=TextConfig(d_model=192, d_ff=512, d_kv=32, num_heads=6, num_layers=3),
            vision=VisionConfig(hidden_size=192, num_layers=2, num_heads=6, ffn_size=512),
            fusion=FusionConfig(hidden_size=96, num_heads=6),
        )
    text = {"mt5-small": "mt5_small", "mt5-base": "mt5_base", "mbart-50": "mbart50_large"}[shape]
    return NetworkConfig.model_validate({"text": {"shape": text}})


def vocabulary(shape: str) -> int:
    """Rows of the embeddings: those of the published checkpoints."""
    return {"tiny": 8_000, "mbart-50": 250_054}.get(shape, 250_112)


def lengths_of(quick: bool) -> Lengths:
    """The paper's Appendix B, or a sixteenth of it."""
    return Lengths(document=32, summary=6) if quick else Lengths(document=512, summary=84)


class Articles:
    """Draws the lengths of articles; `full` gives every article all of everything."""

    def __init__(self, regime: str, lengths: Lengths, seed: int) -> None:
        assert regime in REGIMES
        self.full, self.lengths = regime == "full", lengths
        self.random = torch.Generator().manual_seed(seed)

    def document(self) -> int:
        return self._draw(HELP_DOCUMENT, self.lengths.document)

    def summary(self) -> int:
        return self._draw(HELP_SUMMARY, self.lengths.summary)

    def images(self) -> int:
        if self.full:
            return IMAGES
        return int(torch.multinomial(torch.tensor(EMOJI_IMAGES), 1, generator=self.random))

    def _draw(self, quantiles: Sequence[int], longest: int) -> int:
        """The inverse of the distribution function, linear between deciles, scaled to `longest`."""
        if self.full:
            return longest
        place = float(torch.rand((), generator=self.random)) * (len(quantiles) - 1)
        below = int(place)
        value = quantiles[below] + (place - below) * (quantiles[below + 1] - quantiles[below])
        return max(2, round(value * longest / quantiles[-1]))


def plain_rows(articles: Articles, rows: int, languages: int = 4, first_story: int = 0) -> list[Row]:
    """Cross-lingual examples of different stories, all in one group; targets walk through the languages."""
    return [
        Row(
            source=articles.document(),
            target=articles.document(),
            summary=articles.summary(),
            images=articles.images(),
            story=first_story + row,
            source_language=(first_story + row + 1) % languages,
            target_language=(first_story + row) % languages,
        )
        for row in range(rows)
    ]


def story_rows(articles: Articles, stories: int) -> list[Row]:
    """One target article a story, with its summary and images, from `SOURCES` sources, the first of them itself."""
    rows = []
    for story in range(stories):
        summary, images = articles.summary(), articles.images()
        documents = [articles.document() for _ in range(SOURCES)]
        rows += [
            Row(
                source=documents[language],
                target=documents[0],
                summary=summary,
                images=images,
                story=story,
                source_language=language,
                target_language=0,
            )
            for language in range(SOURCES)
        ]
    return rows


def batch_of(
    rows: Sequence[Row],
    words: int,
    seed: int,
    *,
    source_summaries: bool = False,
    picture_side: int = 0,
    labels: int = 0,
) -> Batch:
    """The rows as collation makes them: texts padded to the longest, images to `IMAGES`; the same article is the
    same tokens in every row.

    source_summaries: with that field, of cross-lingual rows, as long as the longest summary.  picture_side: with
    pixels of that width and height, unless 0.  labels: with a label of so many of each row, unless 0.
    """
    longest = {name: max(getattr(row, name) for row in rows) for name in ("source", "target", "summary")}
    base = random_batch(
        rows=len(rows),
        document=longest["target"] + 2,  # target documents come two tokens shorter
        summary=longest["summary"],
        images=IMAGES,
        regions=REGIONS,
        features=FEATURES,
        vocab_size=words,
        full=True,
        source_summaries=source_summaries,
        picture_side=picture_side,
        seed=seed,
    )
    random = torch.Generator().manual_seed(seed)
    texts: dict[tuple[int, int], Tensor] = {}
    for row in rows:
        for language, tokens in ((row.source_language, row.source), (row.target_language, row.target)):
            if (row.story, language) not in texts:
                texts[row.story, language] = torch.randint(FIRST_WORD, words, (tokens,), generator=random)
    source_ids_BM, source_mask_BM = _pad([texts[row.story, row.source_language] for row in rows])
    target_ids_BM, target_mask_BM = _pad([texts[row.story, row.target_language] for row in rows])
    first_of = {(row.story, row.target_language): number for number, row in reversed(list(enumerate(rows)))}
    first_B = torch.tensor([first_of[row.story, row.target_language] for row in rows])
    summaries = [
        base.summary_ids_BN[first, : row.summary].clone() for first, row in zip(first_B.tolist(), rows, strict=True)
    ]
    for ids in summaries:
        ids[-1] = EOS_ID
    summary_ids_BN, summary_mask_BN = _pad(summaries)
    image_mask_BI = torch.arange(IMAGES) < torch.tensor([row.images for row in rows])[:, None]
    source_language_B = torch.tensor([row.source_language for row in rows])
    target_language_B = torch.tensor([row.target_language for row in rows])
    pixels_BIHWC = base.pixels_BIHWC
    if pixels_BIHWC is not None:
        pixels_BIHWC = pixels_BIHWC[first_B] * image_mask_BI[:, :, None, None, None]
    return dataclasses.replace(
        base,
        source_ids_BM=source_ids_BM,
        source_mask_BM=source_mask_BM,
        target_ids_BM=target_ids_BM,
        target_mask_BM=target_mask_BM,
        summary_ids_BN=summary_ids_BN,
        summary_mask_BN=summary_mask_BN,
        start_B=FIRST_WORD + target_language_B,
        roi_BIRV=base.roi_BIRV[first_B] * image_mask_BI[:, :, None, None],
        boxes_BIR4=base.boxes_BIR4[first_B] * image_mask_BI[:, :, None, None],
        image_mask_BI=image_mask_BI,
        images_B=first_B,
        cross_B=source_language_B != target_language_B,
        source_language_B=source_language_B,
        target_language_B=target_language_B,
        story_B=torch.tensor([row.story for row in rows]),
        group_B=torch.tensor([row.group for row in rows]),
        pixels_BIHWC=pixels_BIHWC,
        label_B=torch.arange(len(rows)) % labels if labels else None,
    )


def _pad(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=PAD_ID)
    lengths = torch.tensor([len(text) for text in texts])
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]
