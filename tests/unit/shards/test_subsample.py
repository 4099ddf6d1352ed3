"""A corpus of which a study uses few examples of some directions."""

import numpy as np
import pytest

from shards.directions import parse_directions
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.sampler import Sampler
from shards.stream.subsample import keep_examples


def edges_of(corpus: Corpus, pattern: str) -> list[set[tuple[int, int]]]:
    """Return the training examples of each direction of a pattern."""
    size, starts = len(corpus.languages), corpus.directions["train"]
    return [
        set(
            map(
                tuple,
                corpus.edges["train"][starts[target * size + source] : starts[target * size + source + 1]].tolist(),
            )
        )
        for source, target in parse_directions(pattern, corpus.languages)
    ]


def test_directions_keep_as_many_examples_as_they_may_and_others_all(tiny_corpus: Corpus) -> None:
    counts = tiny_corpus.direction_counts("train")
    assert counts.max() > 3
    some = keep_examples(tiny_corpus, {"*-en": 3, "fr-en": 1})
    for source, target in parse_directions("all", tiny_corpus.languages):
        names = tiny_corpus.languages[source], tiny_corpus.languages[target]
        most = counts[target, source] if names[1] != "english" else 1 if names[0] == "french" else 3
        assert some.direction_counts("train")[target, source] == min(most, counts[target, source]), names
    for kept, whole in zip(edges_of(some, "all"), edges_of(tiny_corpus, "all"), strict=True):
        assert kept <= whole
    assert np.array_equal(some.edges["validation"], tiny_corpus.edges["validation"])


def test_without_limits_the_edges_stay_mapped(tiny_corpus: Corpus) -> None:
    assert keep_examples(tiny_corpus, {}) is tiny_corpus


def test_fewer_examples_are_some_of_more(tiny_corpus: Corpus) -> None:
    few, more = (keep_examples(tiny_corpus, {"all": most}) for most in (2, 4))
    assert all(less <= rest for less, rest in zip(edges_of(few, "all"), edges_of(more, "all"), strict=True))


def test_the_stream_brings_those_alone(tiny_corpus: Corpus) -> None:
    some = keep_examples(tiny_corpus, {"*-en": 2})
    mixture = MixtureConfig(directions="*-en")
    groups = Sampler(some, split="train", mixture=mixture, seed=0, group_size=2).groups(0, 64)
    drawn = set(zip(groups.source.ravel().tolist(), groups.target.ravel().tolist(), strict=True))
    assert drawn == set().union(*edges_of(some, "*-en"))


def test_a_direction_without_examples_and_a_pattern_without_a_direction(tiny_corpus: Corpus) -> None:
    assert not keep_examples(tiny_corpus, {"all": 0}).direction_counts("train").any()
    with pytest.raises(InputError, match=r"corpus\.most_examples: .*klingon"):
        keep_examples(tiny_corpus, {"klingon-en": 1})
