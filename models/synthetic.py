"""Random networks and batches of any shape, for tests and benchmarks: no files, no tokenizer, no corpus.

Shape suffixes as in shards/schema.py.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.config import FusionConfig, NetworkConfig, TextConfig, VisionConfig
from shards.batch.types import Batch, unrelated

PAD_ID, EOS_ID, FIRST_WORD = 0, 1, 8  # ids 2..7 are left to start tokens


def tiny_config(*, vision: bool = True, dropout: float = 0.0, hidden_size: int | None = None) -> NetworkConfig:
    """A network of some thousand parameters: D = 16, C = 8, 12 wide features, 3 images of 4 regions."""
    return NetworkConfig(
        text=TextConfig(d_model=16, d_ff=24, d_kv=4, num_heads=4, num_layers=2, dropout=dropout),
        vision=VisionConfig(
            enabled=vision,
            feature_size=12,
            hidden_size=hidden_size,
            num_layers=2,
            num_heads=2,
            ffn_size=20,
            dropout=dropout,
            max_images=3,
            regions=4,
        ),
        fusion=FusionConfig(hidden_size=8, num_heads=2, dropout=dropout),
    )


def random_batch(
    *,
    rows: int = 4,
    document: int = 9,
    summary: int = 5,
    images: int = 3,
    regions: int = 4,
    features: int = 12,
    vocab_size: int = 50,
    groups: int = 1,
    full: bool = False,
    source_summaries: bool = False,
    picture_side: int = 0,
    seed: int = 0,
) -> Batch:
    """Rows of random lengths up to `document` and `summary` tokens (exactly that many where `full`).

    Target documents are two tokens shorter, so that the two branches differ in width. Row 0 has images and row 2,
    where there is one, is monolingual and has none, unless `full`: then all rows are cross-lingual with all images.
    source_summaries: with that optional field, which a monolingual row has as its summary.  picture_side: with
    pixels of that width and height, unless 0.
    """
    random = torch.Generator().manual_seed(seed)
    target = max(1, document - 2)

    def ids(width: int) -> Tensor:
        return torch.randint(FIRST_WORD, vocab_size, (rows, width), generator=random)

    def mask(width: int, least: int = 1) -> Tensor:
        length_B = torch.randint(least, width + 1, (rows, 1), generator=random)
        return torch.arange(width) < (torch.full_like(length_B, width) if full else length_B)

    source_mask_BM, target_mask_BM, summary_mask_BN = mask(document), mask(target), mask(summary)
    source_ids_BM = ids(document).masked_fill(~source_mask_BM, PAD_ID)
    target_ids_BM = ids(target).masked_fill(~target_mask_BM, PAD_ID)
    last_B1 = summary_mask_BN.sum(dim=1, keepdim=True) - 1
    summary_ids_BN = ids(summary).masked_fill(~summary_mask_BN, PAD_ID).scatter(1, last_B1, EOS_ID)
    image_mask_BI = mask(images, least=0)
    cross_B = torch.ones(rows, dtype=torch.bool)
    if not full:
        image_mask_BI[0, 0] = True
        if rows > 2:
            cross_B[2], image_mask_BI[2] = False, False
    roi_BIRV = torch.rand(rows, images, regions, features, generator=random)
    boxes_BIR4 = torch.rand(rows, images, regions, 4, generator=random)
    row_B = torch.arange(rows)
    batch = Batch(
        source_ids_BM=source_ids_BM,
        source_mask_BM=source_mask_BM,
        target_ids_BM=target_ids_BM,
        target_mask_BM=target_mask_BM,
        summary_ids_BN=summary_ids_BN,
        summary_mask_BN=summary_mask_BN,
        start_B=2 + row_B % (FIRST_WORD - 2),
        roi_BIRV=(roi_BIRV * image_mask_BI[:, :, None, None]).half(),
        boxes_BIR4=boxes_BIR4 * image_mask_BI[:, :, None, None],
        image_mask_BI=image_mask_BI,
        images_B=row_B.clone(),
        cross_B=cross_B,
        source_language_B=cross_B.long(),
        target_language_B=torch.zeros(rows, dtype=torch.int64),
        **unrelated(rows) | {"group_B": row_B * groups // rows},
    )
    if picture_side:
        # With a generator of its own, so that the other fields are the same without it; so below, by coming last.
        own = torch.Generator().manual_seed(seed)
        shape = (rows, images, picture_side, picture_side, 3)
        pixels_BIHWC = torch.randint(0, 256, shape, dtype=torch.uint8, generator=own)
        batch = replace(batch, pixels_BIHWC=pixels_BIHWC * image_mask_BI[:, :, None, None, None])
    if not source_summaries:
        return batch
    cross_B1 = cross_B[:, None]
    mask_BS = torch.where(cross_B1, mask(summary), summary_mask_BN)
    last_B1 = mask_BS.sum(dim=1, keepdim=True) - 1
    ids_BS = ids(summary).masked_fill(~mask_BS, PAD_ID).scatter(1, last_B1, EOS_ID)
    return replace(
        batch,
        source_summary_ids_BS=torch.where(cross_B1, ids_BS, summary_ids_BN),
        source_summary_mask_BS=mask_BS,
        source_start_B=torch.where(cross_B, 2 + (row_B + 1) % (FIRST_WORD - 2), batch.start_B),
    )


def same_target(batch: Batch, first: int, *others: int) -> Batch:
    """The same batch with the target article of row `first`, its images included, in the rows `others`, too."""
    names = ["target_ids_BM", "target_mask_BM", "summary_ids_BN", "summary_mask_BN", "start_B", "target_language_B"]
    names += ["story_B", "roi_BIRV", "boxes_BIR4", "image_mask_BI", "images_B"]
    names += ["pixels_BIHWC"] if batch.pixels_BIHWC is not None else []
    changed = {name: getattr(batch, name).clone() for name in names}
    for values in changed.values():
        values[list(others)] = values[first].clone()
    return replace(batch, **changed)
