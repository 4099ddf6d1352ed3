"""What can be taken out of a document without a model: its first words, and the best that extraction could do.

The oracle is the greedy one of extractive summarization (Nallapati et al. 2017; Liu and Lapata 2019): units of the
document are added one at a time, whichever raises ROUGE-1 + ROUGE-2 F1 against the reference most, until none does.
Units are sentences, or words where a document is one sentence: it is what keywords and titles are.
"""

from collections.abc import Sequence

from trainer.evaluation.robustness.text import sentences, words
from trainer.evaluation.scoring.languages import Tokenizer, segment
from trainer.evaluation.scoring.rouge import Counted, rouge
from trainer.recipe.profiles import DEFAULT, Profile


def median_words(language: str, texts: Sequence[str]) -> int:
    """Return the median number of words (the segmenter's) of texts in a language; half a word more is one, 1 at least.

    1 where there is no text.
    """
    counts = sorted(len(segment(text, language)) for text in texts)
    if not counts:
        return 1
    middle = (counts[(len(counts) - 1) // 2] + counts[len(counts) // 2]) / 2
    return max(1, int(middle + 0.5))


def lead(document: str, language: str, count: int) -> str:
    """Return the beginning of a document with its first `count` words, as they are written there."""
    taken: list[str] = []
    for piece, is_word in words(document, language):
        taken.append(piece)
        count -= is_word
        if not count:
            break
    return "".join(taken).strip()


def oracle(document: str, reference: str, source: str, target: str, profile: Profile = DEFAULT) -> str:
    """Return the units of a document in `source` that come nearest to a reference in `target`, in their order.

    Empty where no unit shares a word with the reference, as is usual across languages. Sentences stand on lines of
    their own, words between blanks.
    """
    tokenizer = Tokenizer(target, profile)
    of_reference = Counted(tokenizer.tokenize(reference))
    wanted = set(of_reference.unigrams)
    units, between = _units(document, source)
    tokens: list[tuple[str, list[str]]] = []
    for unit in units:
        of_unit = tokenizer.tokenize(unit)
        if not wanted.isdisjoint(of_unit):  # no other can raise a score
            tokens.append((unit, of_unit))
    chosen: list[int] = []
    best = 0.0
    while True:
        options = []
        for place in range(len(tokens)):
            if place not in chosen:
                together = sorted([*chosen, place])
                counted = Counted([token for number in together for token in tokens[number][1]])
                rouge1, rouge2, *_ = rouge(of_reference, counted)
                options.append((rouge1 + rouge2, -place, together))
        gain, _, together = max(options, default=(0.0, 0, chosen))
        if gain <= best:
            return between.join(tokens[place][0] for place in chosen)
        best, chosen = gain, together


def _units(document: str, language: str) -> tuple[list[str], str]:
    """The units of a document, and what to put between them."""
    found = [body.strip() for body, _ in sentences(document)]
    if len(found) > 1:
        return found, "\n"
    return [piece for piece, is_word in words(document, language) if is_word], " "
