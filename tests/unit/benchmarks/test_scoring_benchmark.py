"""The texts that the scoring benchmark makes. Its quick run: tests/system/test_quick_benchmarks.py."""

from benchmarks.scoring import make_triples
from shards.languages import LANGUAGE_CODES
from trainer.evaluation.scoring.score import score_rouge


def test_texts_are_all_different_and_scores_are_of_all_sizes() -> None:
    triples = make_triples(450)
    assert {language for language, _, _ in triples} == set(LANGUAGE_CODES)
    assert len({reference for _, reference, _ in triples}) == len(triples)
    assert triples == make_triples(450)
    assert triples != make_triples(450, seed=1)
    scores = score_rouge(triples, processes=1)
    rouge1 = [of_pair[0] for of_pair in scores if of_pair]
    assert min(rouge1) < 0.4 < 0.7 < max(rouge1)
    assert any(of_pair[2] != of_pair[3] for of_pair in scores if of_pair), "some have several sentences"
