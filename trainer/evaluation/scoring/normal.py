"""Texts in the form that SentencePiece's `nmt_nfkc` leaves of them, which is mT5's and ours.

A tokenizer that normalizes cannot write what its normalization takes away: compared by code points, a perfect summary
loses Thai's Sara Am, Persian's joints of words, full-width letters.
"""

import unicodedata

import regex

#: What `nmt_nfkc` makes a blank of: white space and its kind, joiners, marks of direction, U+2581, U+FFFD.
_BLANK = regex.compile(r"[\s\u061C\u200B-\u200F\u2581\uFEFF\uFFFD]+")
#: And what it drops, white space aside.
_DROPPED = regex.compile(r"[\x00-\x08\x0B\x0E-\x1F\x7F\x8F\x9F]")
#: NFKC takes Sara Am apart, and a tone mark may come to stand between the parts. Words of a dictionary have it whole.
_SARA_AM = (
    (regex.compile(r"\u0E4D([\u0E48-\u0E4B]?)\u0E32|([\u0E48-\u0E4B])\u0E4D\u0E32"), "\u0e33"),
    (regex.compile(r"\u0ECD([\u0EC8-\u0ECB]?)\u0EB2|([\u0EC8-\u0ECB])\u0ECD\u0EB2"), "\u0eb3"),
)


def normalize(text: str) -> str:
    """Return `text` in NFKC with Sara Am whole, blanks and zero-width signs as single blanks, none at its ends.

    What `nmt_nfkc` has normalized has the same form as what it was made of: normalize(decode(encode(x))) is
    normalize(x) for a tokenizer that knows every character, or its bytes.
    """
    folded = unicodedata.normalize("NFKC", _BLANK.sub(" ", _DROPPED.sub("", text)))
    for apart, whole in _SARA_AM:
        folded = apart.sub(rf"\1\2{whole}", folded)
    return " ".join(folded.split())
