"""A text in pieces that can be exchanged, and random numbers that follow from the example alone."""

import hashlib
import random
from itertools import accumulate, groupby, pairwise

import regex

from trainer.evaluation.scoring.languages import segment
from trainer.evaluation.scoring.text import sentence_pieces

#: What a person takes for one character: a letter with its marks, a syllable with its vowel signs, a joined emoji.
_CLUSTER = regex.compile(r"\X")
_LETTER = regex.compile(r"[\p{L}\p{N}]")
#: White space, punctuation and ASCII signs divide words, as in scoring.
_WORD = regex.compile(r"[^\s\p{P}!-/:-@\[-`{-~]")
#: Written without blanks between words: pieces are put side by side.
_UNSPACED = frozenset({"burmese", "chinese_simplified", "chinese_traditional", "japanese", "thai"})


def seeded(seed: int, *names: str) -> random.Random:
    """Random numbers of their own for each seed and names, the same on every machine."""
    digest = hashlib.blake2b("\0".join((str(seed), *names)).encode("utf-8", "surrogatepass"), digest_size=8)
    return random.Random(int.from_bytes(digest.digest()))


def in_random_order(count: int, draw: random.Random) -> list[int]:
    """0 .. count-1; who takes more of them takes the same first."""
    order = list(range(count))
    draw.shuffle(order)
    return order


def how_many(share: float, of: int, *, least: int = 1) -> int:
    """The number of pieces that a share of `of` is, rounded; at least `least`, so that short texts change as well."""
    return min(of, max(least, int(share * of + 0.5)))


def clusters(text: str) -> list[str]:
    """The grapheme clusters of a text (UAX #29), which together are the text."""
    found: list[str] = _CLUSTER.findall(text)
    return found


def is_letter(cluster: str) -> bool:
    """Whether a cluster begins with a letter or a digit."""
    return _LETTER.match(cluster) is not None


def is_cluster(text: str) -> bool:
    return _CLUSTER.fullmatch(text) is not None


def is_spaced(language: str) -> bool:
    """Whether blanks stand between the language's words."""
    return language not in _UNSPACED


def words(text: str, language: str) -> list[tuple[str, bool]]:
    """A text in pieces that together are the text: (piece, whether it is a word).

    Words are by the segmenters of scoring; none ends inside a grapheme cluster.
    """
    pieces: list[tuple[str, bool]] = []
    for is_word, group in groupby(clusters(text), key=lambda cluster: _WORD.match(cluster) is not None):
        of_run = list(group)
        run = "".join(of_run)
        if not is_word:
            pieces.append((run, False))
            continue
        edges, begin, end = set(accumulate(map(len, of_run))), 0, 0
        for length in _word_lengths(run, language):
            end += length
            if end in edges:
                pieces.append((run[begin:end], True))
                begin = end
    return pieces


def _word_lengths(run: str, language: str) -> list[int]:
    """Scoring cleans what it cuts; where a word can no longer be found by its length, the run is one word."""
    lengths = [len(word) for word in segment(run, language)]
    return lengths if sum(lengths) == len(run) else [len(run)]


def sentences(text: str) -> list[tuple[str, str]]:
    """A text in pieces that together are the text: (sentence with the sign that ends it, white space behind it).

    White space before the first is part of it. Of a text without a sentence there are none.
    """
    edges = set(accumulate(map(len, clusters(text))))
    begins: list[int] = []
    end = 0
    for piece in sentence_pieces(text):
        begin, end = end, end + len(piece)
        first = begin + len(piece) - len(piece.lstrip())
        if piece.strip() and (first in edges or not begins):
            begins.append(first if begins else 0)
    found = []
    for begin, end in pairwise([*begins, len(text)]):
        body = text[begin:end].rstrip()
        found.append((body, text[begin + len(body) : end]))
    return found
