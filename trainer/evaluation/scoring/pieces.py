"""Cut a text into pieces whose concatenation is the text: grapheme clusters, words, sentences."""

from itertools import accumulate, groupby, pairwise

import regex

from trainer.evaluation.scoring.text import sentence_pieces
from trainer.evaluation.scoring.tokenizers import segment

#: A character as readers see it: a letter with its marks, a syllable with its vowel signs, a joined emoji.
_CLUSTER = regex.compile(r"\X")
#: White space, punctuation and ASCII signs divide words, as in scoring.
_WORD = regex.compile(r"[^\s\p{P}!-/:-@\[-`{-~]")


def clusters(text: str) -> list[str]:
    """Return the grapheme clusters of a text (UAX #29)."""
    found: list[str] = _CLUSTER.findall(text)
    return found


def words(text: str, language: str) -> list[tuple[str, bool]]:
    """Return the pieces of a text, each with True if it is a word.

    Words are those of the segmenters of scoring; none ends inside a grapheme cluster.
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
    """Return the lengths of a run's words; of the whole run where the segmenter has changed the text."""
    lengths = [len(word) for word in segment(run, language)]
    return lengths if sum(lengths) == len(run) else [len(run)]


def sentences(text: str) -> list[tuple[str, str]]:
    """Return the sentences of a text, each with its end sign and, apart, the white space behind it.

    White space before the first is part of it. A text without a sentence has none.
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
