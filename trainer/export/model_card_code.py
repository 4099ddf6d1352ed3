"""The code in a model card, which runs as it stands with the model's directory as the working directory."""

from collections.abc import Sequence

from shards.text.sentencepiece_tokenizer import SentencePieceTokenizer
from trainer.trained import REST, TEXT, Model

#: What the example's text is in, by mBART-50's name of it.
_READS = "en_XX"


def loading(model: Model, codes: Sequence[str], kind: str) -> list[str]:
    """Paragraphs and blocks of code: with this project, and with transformers alone."""
    vision = model.recipe.network.vision.enabled
    wanted = "en" if "en" in codes else codes[0]
    return [
        "With the project that trained it, images and all:",
        "```\nd2tv evaluate . --split test corpus.path=CORPUS\n```",
        _block(_OURS),
        "With transformers alone, "
        + ("the text part, for an article without images. " if vision else "all of it. ")
        + "`en` and the like are the codes of the table below.",
        _block("\n".join(_stock(model, wanted, kind, vision))),
    ]


_OURS = """from pathlib import Path

from trainer.trained import open_model

model = open_model(Path("."))  # model.network.generate, model.tokenizer, model.recipe
print(sum(parameter.numel() for parameter in model.network.parameters()), "parameters")"""


def _stock(model: Model, wanted: str, kind: str, vision: bool) -> list[str]:
    ours = isinstance(model.tokenizer, SentencePieceTokenizer)
    reads = f', src_lang="{_READS}"' if kind == "mbart" else ""
    lines = [
        *(["import sentencepiece"] if ours else []),
        "import torch",
        *(["from safetensors import safe_open"] if kind == "mt5" or vision else []),
        f"from transformers import AutoModelForSeq2SeqLM{'' if ours else ', AutoTokenizer'}",
        "",
        'model = AutoModelForSeq2SeqLM.from_pretrained(".").eval()',
    ]
    if kind == "mt5":
        lines += [
            f'with safe_open("{TEXT}", framework="pt") as stored:  # the head\'s bias, which mT5 has no place for',
            '    model.lm_head.bias = torch.nn.Parameter(stored.get_tensor("lm_head.bias"))',
        ]
    if vision:
        lines += [
            f'with safe_open("{REST}", framework="pt") as stored:  # what the decoder reads where there are no images',
            '    weight, bias = stored.get_tensor("fusion.output.weight"), stored.get_tensor("fusion.output.bias")',
            "",
            "",
            "def fuse(_encoder, _inputs, output):",
            "    states = output.last_hidden_state",
            "    output.last_hidden_state = torch.nn.functional.linear(states, weight[:, : states.shape[-1]], bias)",
            "    return output",
            "",
            "",
            "model.get_encoder().register_forward_hook(fuse)",
        ]
    if ours:
        lines += [
            'tokenizer = sentencepiece.SentencePieceProcessor(model_file="spiece.model")',
            'ids = torch.tensor([[*tokenizer.encode("The text of an article."), model.config.eos_token_id]])',
        ]
    else:
        lines += [
            f'tokenizer = AutoTokenizer.from_pretrained("."{reads})',
            'ids = tokenizer("The text of an article.", return_tensors="pt").input_ids',
        ]
    lines += [
        f'start = model.generation_config.lang_to_id["{wanted}"]  # the language to write',
        "summary = model.generate(ids, decoder_start_token_id=start)[0, 1:].tolist()",
    ]
    if ours:
        lines += ["print(tokenizer.decode([i for i in summary if not tokenizer.is_control(i)]))"]
    else:
        lines += ["print(tokenizer.decode(summary, skip_special_tokens=True))"]
    return lines


def _block(code: str) -> str:
    return f"```python\n{code}\n```"
