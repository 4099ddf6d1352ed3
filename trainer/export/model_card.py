"""Write the README.md of an exported model, from model_card.md.jinja.

It states only facts of the checkpoint, its run and the corpus' manifest. Its code runs in the model's directory.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.early_fusion import EarlyNetwork
from models.network import Network
from models.vision import VisualEncoder
from shards.files.strict_yaml import write_yaml
from shards.format.manifest import SPLITS
from shards.languages import LANGUAGE_CODES
from shards.text.sentencepiece_tokenizer import SentencePieceTokenizer
from trainer.checkpoint.directory import TrainState, identity, read_state
from trainer.ds_config import precision_of, read_saved_ds_config
from trainer.evaluation.closing_table import BESIDE, BESIDE_MEANS
from trainer.evaluation.describe import describe_rouge, describe_similarity, profile_in
from trainer.evaluation.kept import kept_evaluations
from trainer.evaluation.report import read_report
from trainer.evaluation.scoring.rouge import TYPES
from trainer.markdown import as_code, as_text
from trainer.recipe import load_saved_recipe
from trainer.trained import Model
from trainer.trained_files import RECIPE, REST, TEXT, run_of

#: objective -> title and address of its paper.
_PAPERS = {
    "d2tv": (
        "D²TV: Dual Knowledge Distillation and Target-oriented Vision Modeling for Many-to-Many Multimodal "
        "Summarization (Liang et al., 2023)",
        "https://arxiv.org/abs/2305.12767",
    )
}
_NAMES = {"mt5": "mT5", "mbart": "mBART"}
_ROUGE = ["R-1", "R-2", "R-L"]


def language_code(name: str) -> str:
    """Return the BCP 47 code of a corpus' language."""
    return LANGUAGE_CODES.get(name, name)


def model_card(model: Model, checkpoint: Path, data: Mapping[str, Any], dtype: str) -> str:
    """Return the card of `model`, exported from `checkpoint` in `dtype`; data: the contents of corpus.json."""
    # Markdown, not HTML: names and paths are escaped by the two filters.
    markdown = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    markdown.filters |= {"text": as_text, "code": as_code}
    state, run, recipe = read_state(checkpoint), run_of(checkpoint), model.recipe
    kind = str(model.network.backbone.model.config.model_type)
    languages = [(name, language_code(name), str(model.tokenizer.start_id(name))) for name in data["languages"]]
    codes = [code for _, code, _ in languages]
    title, address = _PAPERS.get(recipe.objective.name, (recipe.objective.name, ""))
    return markdown.get_template("model_card.md.jinja").render(
        recipe=recipe,
        state=state,
        data=data,
        dtype=dtype,
        kind=kind,
        run=run.resolve().name,
        vision=recipe.network.vision.enabled,
        joint=recipe.network.joint is not None,
        sentencepiece=isinstance(model.tokenizer, SentencePieceTokenizer),
        text_file=TEXT,
        rest_file=REST,
        front_matter=write_yaml(_front_matter(model, codes, kind)),
        backbone=_NAMES[kind],
        objective=json.dumps(recipe.objective.model_dump(mode="json")),
        paper=f"[{title}]({address})" if address else title,
        training=_training(model, checkpoint, state),
        parameters=_parameters(model.network),
        languages=languages,
        splits=[
            (split, *(f"{data['splits'][split][what]:,}" for what in ("stories", "articles", "edges")))
            for split in SPLITS
        ],
        reports=_reports(run, checkpoint, model.product),
        rouge=_ROUGE,
        beside_means=BESIDE_MEANS,
        written="en" if "en" in codes else codes[0],
        start_tokens=[(as_text(name), as_text(code), start) for name, code, start in languages],
    )


def _front_matter(model: Model, codes: Sequence[str], kind: str) -> dict[str, Any]:
    return {
        "language": list(codes),
        "library_name": "d2tv",
        "pipeline_tag": "summarization",
        "tags": [
            *(["multimodal-summarization"] if model.recipe.network.vision.enabled else []),
            *(["cross-lingual-summarization"] if len(codes) > 1 else []),
            model.recipe.objective.name,
            kind,
            "transformers",
            "safetensors",
        ],
    }


def _training(model: Model, checkpoint: Path, state: TrainState) -> list[tuple[str, str]]:
    recipe = model.recipe
    config = read_saved_ds_config(checkpoint) if (checkpoint / "ds_config.json").exists() else {}
    batch, optimizer, schedule = recipe.batch, recipe.optimizer, recipe.schedule
    examples = batch.group_size * batch.groups_per_step
    began = load_saved_recipe(checkpoint / RECIPE).network.text.pretrained  # as it was called when training began
    product = [] if model.product is None else [("product", as_code(model.product))]
    return [
        *product,
        ("began from", as_code(began) if began else "random weights"),
        ("steps", f"{state.step:,} of {recipe.training.steps:,}"),
        ("batch", f"{examples:,} examples a step, in groups of {batch.group_size} of one target language"),
        ("learning rate", f"{optimizer.learning_rate:g}, {schedule.kind} after {schedule.warmup_steps:,} steps"),
        ("optimizer", f"AdamW, betas {', '.join(map(str, optimizer.betas))}, weight decay {optimizer.weight_decay:g}"),
        ("precision", f"{precision_of(config)}, masters in fp32"),
        ("lengths", f"documents {recipe.lengths.document}, summaries {recipe.lengths.summary} tokens"),
        ("seed", str(recipe.training.seed)),
        ("examples that could not be read", f"{state.unreadable:,}"),
        ("checkpoint", f"{as_code(identity(checkpoint))} (SHA-256 of its manifest)"),
    ]


def _parameters(network: Network) -> list[tuple[str, str]]:
    backbone = network.backbone
    early = network if isinstance(network, EarlyNetwork) else None
    parts = {
        "embeddings, shared by encoder and decoder": backbone.model.shared,
        "text encoder and decoder": backbone.model,
        "head": backbone.head,
        "visual encoder" if isinstance(network.vision, VisualEncoder) else "embedding of regions": network.vision,
        "fusion": network.fusion,
        **(
            {}
            if early is None
            else {"embedding of patches": early.patches, "marks of the encoder's inputs": early.special}
        ),
    }
    counts = {name: sum(p.numel() for p in of.parameters()) for name, of in parts.items() if of is not None}
    counts["text encoder and decoder"] -= counts["embeddings, shared by encoder and decoder"]
    if backbone.head.weight is backbone.model.shared.weight:  # counted with the embeddings
        counts["head"] -= backbone.head.weight.numel()
    return [(name, f"{count:,}") for name, count in (*counts.items(), ("all", sum(counts.values())))]


def _reports(run: Path, checkpoint: Path, product: str | None) -> list[dict[str, Any]]:
    """Return the evaluations of this very network; others in the run may be of another checkpoint or product."""
    places = [(where, split) for split in ("test", "validation") for where in (run, *kept_evaluations(run, split))]
    reports = [read_report(where, split) for where, split in places]
    wanted = identity(checkpoint), product
    return [
        _rows(report)
        for report in reports
        # Of another task than writing it has no scores of a kind.
        if report and report["by_kind"] and (report.get("checkpoint"), report.get("product")) == wanted
    ]


def _rows(report: Mapping[str, Any]) -> dict[str, Any]:
    by_kind, nll = report["by_kind"], report["nll"]
    # A release that scored ROUGE alone has none of these.
    beside = {head: name for head, name in BESIDE.items() if any(name in scores for scores in by_kind.values())}
    measures = dict(zip(_ROUGE, TYPES, strict=True)) | ({"wrong": beside["wrong"]} if "wrong" in beside else {})
    return {
        **report,
        "profile": profile_in(report),
        "lines": [as_text(f"{line[0].upper()}{line[1:]}.") for line in describe_rouge(report)],
        "kinds": [
            (
                as_text(kind.upper()),
                *_spelled(scores, TYPES),
                *(f"{nll[kind][of]:.3f}" if nll.get(kind) else "-" for of in ("model", "unigram")),
            )
            for kind, scores in by_kind.items()
        ],
        "beside": list(beside),
        "beside_kinds": [
            (as_text(kind.upper()), *_spelled(scores, list(beside.values()))) for kind, scores in by_kind.items()
        ],
        "similarity": describe_similarity(report),
        "target_head": list(measures),
        "targets": [
            (as_text(f"{name} ({language_code(name)})"), *_spelled(scores, list(measures.values())))
            for name, scores in report["by_target"].items()
        ],
    }


def _spelled(scores: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{scores[name]:.2f}" if name in scores else "-" for name in names]
