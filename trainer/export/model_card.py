"""The README.md of an exported model: what it is, what it was trained on, what it scored, how to load it, its limits.

It says only what the checkpoint, its run and the corpus' manifest say. Its code runs as it stands, in the directory.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.network import Network
from shards.files.strict_yaml import write_yaml
from shards.format.manifest import SPLITS
from shards.languages import LANGUAGE_CODES
from shards.text.sentencepiece_tokenizer import SentencePieceTokenizer
from trainer.checkpoint.directory import TrainState, identity, read_state
from trainer.ds_config import precision_of, read_saved_ds_config
from trainer.evaluation.closing_table import BESIDE, BESIDE_MEANS
from trainer.evaluation.kept import kept_evaluations
from trainer.evaluation.report import read_report
from trainer.evaluation.scoring.findings import lines, profile_in
from trainer.evaluation.scoring.rouge import TYPES
from trainer.evaluation.unscored import similarity_in_words
from trainer.export.model_card_code import loading
from trainer.markdown import as_code, as_text
from trainer.recipe import load_saved_recipe
from trainer.trained import RECIPE, Model, run_of

#: objective -> title and address of its paper.
_PAPERS = {
    "d2tv": (
        "D²TV: Dual Knowledge Distillation and Target-oriented Vision Modeling for Many-to-Many Multimodal "
        "Summarization (Liang et al., 2023)",
        "https://arxiv.org/abs/2305.12767",
    )
}
_NAMES = {"mt5": "mT5", "mbart": "mBART"}


def language_code(name: str) -> str:
    """The BCP 47 code of a corpus' language."""
    return LANGUAGE_CODES.get(name, name)


def model_card(model: Model, checkpoint: Path, data: Mapping[str, Any], dtype: str) -> str:
    """The card of `model`, exported from `checkpoint` in `dtype`; data: what corpus.json says."""
    state, run = read_state(checkpoint), run_of(checkpoint)
    kind = str(model.network.backbone.model.config.model_type)
    sections = [
        _front_matter(model, data, kind),
        f"# {run.resolve().name}, step {state.step:,}",
        _what(model, data, kind),
        "## Training",
        _training(model, checkpoint, state),
        "## Parameters",
        _parameters(model.network, dtype),
        "## Data",
        _data(data),
        "## Scores",
        _scores(run, checkpoint, state),
        "## Loading",
        *loading(model, [language_code(name) for name in data["languages"]], kind),
        "## Start tokens",
        "What a summary begins with says which language it is in (`generation_config.lang_to_id`).",
        _start_tokens(model, data["languages"]),
        "## Limits",
        _limits(model, kind, dtype),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(model: Model, data: Mapping[str, Any], kind: str) -> str:
    vision = model.recipe.network.vision.enabled
    facts = {
        "language": [language_code(name) for name in data["languages"]],
        "library_name": "d2tv",
        "pipeline_tag": "summarization",
        "tags": [
            *(["multimodal-summarization"] if vision else []),
            *(["cross-lingual-summarization"] if len(data["languages"]) > 1 else []),
            model.recipe.objective.name,
            kind,
            "transformers",
            "safetensors",
        ],
    }
    return f"---\n{write_yaml(facts)}---"


def _what(model: Model, data: Mapping[str, Any], kind: str) -> str:
    network, objective = model.recipe.network, model.recipe.objective
    title, address = _PAPERS.get(objective.name, (objective.name, ""))
    count = len(data["languages"])
    reads = "a document and the images beside it" if network.vision.enabled else "a document"
    images = (
        f" Images come as region features, at most {network.vision.max_images} of {network.vision.regions} x "
        f"{network.vision.feature_size} numbers with their boxes; the extractor is no part of it."
        if network.vision.enabled
        else ""
    )
    paper = f"[{title}]({address})" if address else title
    return (
        f"It reads {reads}, in any of {count} languages, and writes a summary in any of them: an {_NAMES[kind]} text "
        f"backbone{', a visual encoder and a fusion of both' if network.vision.enabled else ''}.{images}\n\n"
        f"Objective: {as_code(json.dumps(objective.model_dump(mode='json')))}, of {paper}."
    )


def _training(model: Model, checkpoint: Path, state: TrainState) -> str:
    recipe = model.recipe
    config = read_saved_ds_config(checkpoint) if (checkpoint / "ds_config.json").exists() else {}
    batch, optimizer, schedule = recipe.batch, recipe.optimizer, recipe.schedule
    examples = batch.group_size * batch.groups_per_step
    began = load_saved_recipe(checkpoint / RECIPE).network.text.pretrained  # as it was called when training began
    rows = [
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
    return f"{_table(('', ''), rows)}\n\nEvery key is in [recipe.yaml](recipe.yaml)."


def _parameters(network: Network, dtype: str) -> str:
    parts = {
        "embeddings, shared by encoder and decoder": [network.backbone.model.shared],
        "text encoder and decoder": [network.backbone.model],
        "head": [network.backbone.head],
        "visual encoder": [network.vision] if network.vision is not None else [],
        "fusion": [network.fusion] if network.fusion is not None else [],
    }
    counts = {name: sum(p.numel() for part in of for p in part.parameters()) for name, of in parts.items() if of}
    counts["text encoder and decoder"] -= counts["embeddings, shared by encoder and decoder"]
    if network.backbone.head.weight is network.backbone.model.shared.weight:  # counted with the embeddings
        counts["head"] -= network.backbone.head.weight.numel()
    rows = [*counts.items(), ("all", sum(counts.values()))]
    return _table(("part", f"parameters ({dtype})"), [(name, f"{count:,}") for name, count in rows], right=1)


def _data(data: Mapping[str, Any]) -> str:
    count = len(data["languages"])
    rows = [
        (split, *(f"{data['splits'][split][what]:,}" for what in ("stories", "articles", "edges"))) for split in SPLITS
    ]
    if "licences" not in data:
        licences = "Licences: the corpus' own manifest, which names them, was not at hand when this was exported."
    elif data["licences"]:
        named = [
            " ".join([*(one[key] for key in ("name", "version") if key in one), f"({one['license']})"])
            for one in data["licences"]
        ]
        licences = as_text(f"Made from: {', '.join(named)}.")
    else:
        licences = "Licences: the corpus' manifest names none."
    languages = as_text(", ".join(f"{name} ({language_code(name)})" for name in data["languages"]))
    return "\n\n".join(
        [
            f"Corpus {as_code(data['name'])}, content hash {as_code(data['content_hash'])}: {count} languages, up to "
            f"{count * count:,} directions (source > target). What the run remembers of it is in "
            "[corpus.json](corpus.json).",
            _table(("split", "stories", "articles", "examples"), rows, right=3),
            f"Languages: {languages}.",
            licences,
        ]
    )


def _scores(run: Path, checkpoint: Path, state: TrainState) -> str:
    """Of this very checkpoint only: what lies in the run may be of another."""
    told = []
    for split in ("test", "validation"):
        for where in (run, *kept_evaluations(run, split)):
            report = read_report(where, split)
            if report is not None and report.get("checkpoint") == identity(checkpoint):
                told.append(_report(report))
    if not told:
        told.append("Not evaluated: the run holds no evaluation of this checkpoint.")
    if state.validation:
        nll = ", ".join(f"{kind.upper()} {value:.3f}" for kind, value in state.validation.items())
        told.append(f"Held-out NLL at this step, on the validation split (nats a token): {nll}.")
    return "\n\n".join(told)


def _report(report: Mapping[str, Any]) -> str:
    settings, by_kind, by_target = report["settings"], report["by_kind"], report["by_target"]
    rows = []
    for kind, scores in by_kind.items():
        nll = report["nll"].get(kind)
        losses = (f"{nll['model']:.3f}", f"{nll['unigram']:.3f}") if nll else ("-", "-")
        rows.append((as_text(kind.upper()), *_spelled(scores, TYPES), *losses))
    rouge = ("R-1", "R-2", "R-L")
    unreadable = f" ({report['unreadable']} more could not be read)" if report["unreadable"] else ""
    parts = [
        f"The {report['split']} split: {report['examples']:,} examples{unreadable} of directions "
        f"{as_code(settings['directions'])}, beam {settings['num_beams']}, "
        f"length penalty {settings['length_penalty']:g}. "
        f"ROUGE (R, {as_code(profile_in(report))}) in per cent; NLL in nats a token, beside that of a unigram model. "
        "MMS: within a language; MXLS: from one into another.",
        _table(("kind", *rouge, "NLL", "unigram"), rows, right=5),
        *(as_text(f"{line[0].upper()}{line[1:]}.") for line in lines(report)),
    ]
    # A release that scored ROUGE alone has none of these.
    beside = {head: name for head, name in BESIDE.items() if any(name in scores for scores in by_kind.values())}
    if beside:
        rows = [(as_text(kind.upper()), *_spelled(scores, list(beside.values()))) for kind, scores in by_kind.items()]
        parts += [f"Beside ROUGE, in per cent ({BESIDE_MEANS}):", _table(("kind", *beside), rows, right=len(beside))]
    if told := similarity_in_words(report):
        parts.append(as_text(f"{told}."))
    measures = dict(zip(rouge, TYPES, strict=True)) | ({"wrong": beside["wrong"]} if "wrong" in beside else {})
    rows = [
        (as_text(f"{name} ({language_code(name)})"), *_spelled(scores, list(measures.values())))
        for name, scores in by_target.items()
    ]
    parts += [
        "By the language written, from all that were read:",
        _table(("target", *measures), rows, right=len(measures)),
    ]
    return "\n\n".join(parts)


def _spelled(scores: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{scores[name]:.2f}" if name in scores else "-" for name in names]


def _start_tokens(model: Model, languages: Sequence[str]) -> str:
    rows = [(as_text(name), as_text(language_code(name)), str(model.tokenizer.start_id(name))) for name in languages]
    return _table(("language", "code", "id"), rows, right=1)


def _limits(model: Model, kind: str, dtype: str) -> str:
    recipe = model.recipe
    points = [
        f"It learned from one corpus, with documents cut to {recipe.lengths.document} tokens, and summaries to "
        f"{recipe.lengths.summary}. A summary may say what its document does not.",
        "Left out: the optimizer's state, and what of the objective only training needs. Training does not go on from "
        "here; another one may begin with the text part (`network.text.pretrained=`, `corpus.tokenizer=`).",
    ]
    if dtype != "fp32":
        points.append(f"The weights are the fp32 masters rounded to {dtype}; the scores above are the masters'.")
    if recipe.network.vision.enabled:
        points.append(
            "transformers has no place for vision and fusion. The decoder learned to read what the fusion makes of the "
            "encoder's states, with images or without: leave out the hook above, and it reads what it never learned to."
        )
    if kind == "mt5":
        points.append("transformers' mT5 has no bias in its head: it calls `lm_head.bias` unexpected and drops it.")
    if isinstance(model.tokenizer, SentencePieceTokenizer):
        points.append(
            "The tokenizer is SentencePiece's (`spiece.model`). Do not read it with transformers' AutoTokenizer, which "
            "makes a T5 tokenizer of it, with words that the model has no rows for."
        )
    else:
        points.append("A summary starts with its own language's token, not with `forced_bos_token_id`.")
    return "\n".join(f"- {point}" for point in points)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> str:
    """A Markdown table, its last `right` columns set right."""
    rule = ["---"] * (len(head) - right) + ["---:"] * right
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
