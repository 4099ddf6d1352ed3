"""Import the text part of a published mT5 checkpoint, by name and shape, and list the tensors without a place here.

CrossSum publishes directories as transformers' trainer saves them (csebuetnlp/mT5_m2m_crossSum and others); D2TV's
release (XL2248/D2TV, seq2seq_img_dualkd_mt5) adds its own visual encoder, fusion and contrast, by the names below. The
result is a directory for `network.text.pretrained` and `corpus.tokenizer`.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MT5Config, MT5ForConditionalGeneration

from shards.errors import InputError, reason
from shards.files.read import open_regular, read_json, read_regular
from shards.text.pretrained_tokenizer import PretrainedTokenizer
from shards.text.start_tokens import CROSSSUM_SENTINELS, named_starts
from shards.text.tokenizer import open_tokenizer
from trainer.export.model import new_directory
from trainer.terminal.progress import stage
from trainer.trained_files import CONFIG, TEXT

#: Files of weights by transformers' trainer, in transformers' order of preference.
_WEIGHTS = (TEXT, f"{TEXT}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
#: Keys under which other trainers keep the state.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_SHARED, _HEAD, _BIAS = "shared.weight", "lm_head.weight", "lm_head.bias"
#: Other names of the shared embeddings.
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
#: Files of a tokenizer.
_TOKENIZER = ("spiece.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
#: Keys of config.json that describe the network; the others belong to training or decoding.
_KEYS = (
    *("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads", "feed_forward_proj"),
    *("relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon", "dropout_rate"),
    *("pad_token_id", "eos_token_id", "decoder_start_token_id"),
)
#: Names without a place here, and the reason.
_WITHOUT_PLACE = {
    r"encoder\.img_transformer\.": "D2TV's visual encoder: positions are a sinusoid, not boxes, images and regions",
    r"encoder\.(_linear_\d|_multi_head_attn|fg|custom_layer_norm)\b": "D2TV's fusion: other projections, a residual",
    r"(img_linear\.|temp$)": "D2TV's contrast: its projection of regions and its learned temperature",
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$": "read by no version of mT5",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """tensors: by transformers' names, whole.  left_out: name, shape and why, in the file's order.  notes: lines."""

    tensors: dict[str, Tensor]
    left_out: list[tuple[str, str, str]]
    notes: list[str]


def import_release(checkpoint: Path, out: Path) -> None:
    """Write the mT5 of `checkpoint` into `out` (new or empty), and print the tensors that were placed or left out.

    checkpoint: a directory with config.json, or a file of weights beside one. Files are read as tensors only: none of
    their code runs. Raises `InputError`, one line, for a checkpoint that is missing, damaged, of another architecture,
    or of other shapes than its config.json says; `out` is then not created.
    """
    directory = checkpoint if checkpoint.is_dir() else checkpoint.parent
    config = _config(directory)
    with stage("reading the checkpoint"):
        placed = place(_read_state(checkpoint), config, str(checkpoint))
    with new_directory(out, "import") as staging, stage("writing the checkpoint"):
        save_file(placed.tensors, staging / TEXT, metadata={"format": "pt"})
        notes = _copy_tokenizer(directory, staging)
        starts = named_starts(directory)
        if starts is not None:
            config.task_specific_params = {"langid_map": {name: [i, of] for i, (name, of) in enumerate(starts.items())}}
        config.save_pretrained(str(staging))
        notes += _check_tokenizer(staging, config.vocab_size)
    _report(checkpoint, out, placed, [*placed.notes, *notes])


def place(state: Mapping[str, Any], config: MT5Config, where: str) -> Placed:
    """Find every tensor of an mT5 with this configuration in `state`. `InputError` where one is missing or unfit."""
    state, prefix = _unwrapped(state, where)
    with torch.device("meta"):
        model = MT5ForConditionalGeneration(config)
    wanted = {name: tuple(of.shape) for name, of in model.state_dict().items() if name not in _COPIES}
    wanted[_BIAS] = (config.vocab_size,)  # of our own exports
    tensors: dict[str, Tensor] = {}
    copies: dict[str, Tensor] = {}
    left_out: list[tuple[str, str, str]] = []
    misfits: list[str] = []
    for full, value in state.items():
        name = full.removeprefix(prefix)
        if not isinstance(value, Tensor):
            left_out.append((full, "", f"no tensor, but a {type(value).__name__}"))
        elif not full.startswith(prefix) or name not in {*wanted, *_COPIES}:
            left_out.append((full, _shape(value), _why_left_out(name)))
        elif tuple(value.shape) != (shape := wanted.get(name, wanted[_SHARED])) or not value.is_floating_point():
            misfits.append(f"{full} is {_shape(value)} {_dtype(value)}, and {' x '.join(map(str, shape))} by {CONFIG}")
        elif not value.isfinite().all():
            misfits.append(f"{full} has values that are not finite")
        else:
            (copies if name in _COPIES else tensors)[name] = value
    if misfits:
        raise InputError(
            f"{where}: {len(misfits)} tensors do not fit, {misfits[0]}: the two are of different models, or damaged"
        )
    return _complete(tensors, copies, left_out, wanted, where)


def _complete(
    tensors: dict[str, Tensor],
    copies: Mapping[str, Tensor],
    left_out: list[tuple[str, str, str]],
    wanted: Mapping[str, tuple[int, ...]],
    where: str,
) -> Placed:
    """Resolve embeddings, which some files have under other names, and the head, which some lack."""
    notes: list[str] = []
    if _SHARED not in tensors and copies:
        tensors[_SHARED] = next(iter(copies.values()))
    for name, copy in copies.items():
        if not torch.equal(copy, tensors[_SHARED]):
            raise InputError(
                f"{where}: {name} differs from {_SHARED}, but an mT5 has one embedding for encoder and decoder: it was "
                "trained by other code, and cannot be taken over"
            )
    missing = sorted(wanted.keys() - tensors.keys() - {_HEAD, _BIAS})
    if missing:
        raise InputError(f"{where} lacks {len(missing)} tensors of its mT5, {missing[0]} first: copy it whole")
    if _HEAD not in tensors:
        notes.append(f"no {_HEAD} in it: the head starts as the embeddings")
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}  # safetensors shares no memory
    return Placed(tensors=tensors, left_out=left_out, notes=notes)


def _unwrapped(state: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    """Return the mapping of the tensors, and the prefix of the mT5's names (`model.`, `module.`)."""
    while not any(isinstance(value, Tensor) for value in state.values()):
        inner = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), dict)), None)
        if inner is None:
            break
        state = inner
    for name in (_SHARED, _COPIES[0]):
        found = sorted((full for full in state if f".{full}".endswith(f".{name}")), key=len)
        if found:
            return state, found[0].removesuffix(name)
    raise InputError(f"{where} holds no {_SHARED}: it is no mT5 of transformers' names")


def _why_left_out(name: str) -> str:
    return next((why for pattern, why in _WITHOUT_PLACE.items() if re.match(pattern, name)), "mT5 has no such tensor")


def _config(directory: Path) -> MT5Config:
    path = directory / CONFIG
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): put the checkpoint's own there") from error
    if not isinstance(values, dict) or values.get("model_type") != "mt5":
        found = values.get("model_type") if isinstance(values, dict) else None
        hint = " (network.text.pretrained= takes an mBART-50 as it is)" if found == "mbart" else ""
        raise InputError(f"{path} is of model type {found!r}, not 'mt5': only mT5 is imported{hint}")
    try:
        config = MT5Config(**{key: values[key] for key in _KEYS if values.get(key) is not None})
        config.architectures, config.tie_word_embeddings = ["MT5ForConditionalGeneration"], True
        with torch.device("meta"):
            MT5ForConditionalGeneration(config)
    except Exception as error:  # transformers' errors over such values have no common type
        raise InputError(f"{path} describes no mT5 ({reason(error)}): put the checkpoint's own there") from error
    return config


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the state in a directory's files of weights, or in one file."""
    if not checkpoint.is_dir():
        return _read_file(checkpoint)
    file = next((checkpoint / name for name in _WEIGHTS if (checkpoint / name).is_file()), None)
    if file is None:
        raise InputError(f"{checkpoint} holds no {TEXT} or pytorch_model.bin: name a directory, or the file itself")
    if file.suffix != ".json":
        return _read_file(file)
    try:
        parts = sorted(set(read_json(file)["weight_map"].values()))
        paths = [checkpoint / str(part) for part in parts if Path(str(part)).name == part]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} has no mapping weight_map: copy it anew") from error
    if len(paths) < len(parts):
        raise InputError(f"{file} names a part outside of {checkpoint}: copy it anew")
    state: dict[str, Any] = {}
    for path in paths:
        state |= _read_file(path)
    return state


def _read_file(path: Path) -> dict[str, Any]:
    """Return the mapping in a file of safetensors or torch; tensors only, no code of it runs."""
    try:
        open_regular(path).close()  # torch would wait for a FIFO
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there: name a checkpoint directory, or a file of weights") from error
    except Exception as error:  # a damaged pickle may raise any
        why = "it holds more than tensors" if isinstance(error, UnpicklingError) else reason(error)
        raise InputError(
            f"{path} cannot be read ({why}): copy it anew, or save its state_dict alone with torch.save"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError(f"{path} holds no mapping of names to tensors: save its state_dict with torch.save")
    return state


def _copy_tokenizer(directory: Path, staging: Path) -> list[str]:
    names = [name for name in _TOKENIZER if (directory / name).is_file()]
    for name in names:
        (staging / name).write_bytes(read_regular(directory / name))
    if "tokenizer_config.json" not in names:
        return [f"no tokenizer in {directory}: set corpus.tokenizer= to the one that it was trained with, like mT5's"]
    return []


def _check_tokenizer(staging: Path, rows: int) -> list[str]:
    """Return notes on the copied tokenizer's start tokens. Raises `InputError` where it has more words than rows."""
    if not (staging / "tokenizer_config.json").is_file():
        return []
    tokenizer = open_tokenizer(staging)
    if not isinstance(tokenizer, PretrainedTokenizer) or tokenizer.langid_map is None or tokenizer.vocab_size > rows:
        raise InputError(f"the tokenizer has {tokenizer.vocab_size} words, the embeddings {rows} rows: copy both anew")
    starts = {language: int(re.sub(r"\D", "", token)) for language, (_, token) in tokenizer.langid_map.items()}
    others = [language for language, number in starts.items() if CROSSSUM_SENTINELS[language] != number]
    named = "its config.json names them" if named_starts(staging) is not None else "its config.json names none"
    if not others:
        return [f"start tokens: CrossSum's published map ({named})"]
    return [f"start tokens: {named}; unlike CrossSum's for {', '.join(others)}"]


def _report(checkpoint: Path, out: Path, placed: Placed, notes: list[str]) -> None:
    parts = {"embeddings": (_SHARED,), "encoder": ("encoder.",), "decoder": ("decoder.",), "head": ("lm_head.",)}
    print(f"placed, of {checkpoint}:")
    for part, beginnings in parts.items():
        of = [tensor for name, tensor in placed.tensors.items() if name.startswith(beginnings)]
        print(f"  {part:<12}{len(of):>6} tensors{sum(tensor.numel() for tensor in of):>16,} parameters")
    print(f"not placed: {len(placed.left_out) or 'nothing'}")
    widths = [max((len(row[place]) for row in placed.left_out), default=0) for place in (0, 1)]
    for name, shape, why in placed.left_out:
        print(f"  {name:<{widths[0]}}  {shape:<{widths[1]}}  {why}")
    for note in notes:
        print(note)
    print(f"written to {out}: network.text.pretrained={out} corpus.tokenizer={out}")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "scalar"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
