"""xl-sum's tokens of a text in a language without a segmenter, written once more from the description of each step.

BERT's cleaning and splitting at punctuation, OpenNMT's own tokenizer, BERT's blanks around ideographs. Imports nothing
of ours.
"""

import unicodedata
from typing import Any

#: First and last of each block of ideographs in BERT's `_is_chinese_char`.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def tokens(text: str, opennmt: Any) -> list[str]:
    """opennmt: `pyonmttok.Tokenizer("aggressive")`."""
    cut = " ".join(opennmt.tokenize(" ".join(_basic(text.lower())))[0])
    return "".join(f" {c} " if _is_ideograph(c) else c for c in cut).split()


def _basic(text: str) -> list[str]:
    cleaned = "".join(" " if _is_blank(c) else c for c in text if c not in "\0\ufffd" and not _is_control(c))
    found: list[str] = []
    for word in cleaned.split():
        begins = True
        for character in word:
            if _is_punctuation(character):
                begins = True
            elif begins:
                found.append(character)
                begins = False
            else:
                found[-1] += character
    return " ".join(found).split()


def _is_blank(character: str) -> bool:
    return character in " \t\n\r" or unicodedata.category(character) == "Zs"


def _is_control(character: str) -> bool:
    return character not in "\t\n\r" and unicodedata.category(character).startswith("C")


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    is_ascii_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return is_ascii_sign or unicodedata.category(character).startswith("P")


def _is_ideograph(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _IDEOGRAPHS)
