"""Plan `--perturb`: what this model and corpus can show of what is asked for, and how much is to be decoded."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.robustness.extraction import Extractor, why_no_pictures
from trainer.evaluation.robustness.kinds import Kind, parse_kinds, parse_severities
from trainer.evaluation.robustness.perturb import Material, Perturbation, perturbation
from trainer.terminal.progress import track


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """kinds: as named, singly or by their families.  named: those that were named singly.

    seed: of what is drawn.
    """

    kinds: tuple[Kind, ...]
    named: frozenset[str]
    severities: tuple[int, ...]
    seed: int = 0


def parse_wanted(kinds: str, severities: str) -> Wanted:
    """`all`, `text,no_images`, ... and `1,3,5`. `InputError` for what is neither."""
    found, named = parse_kinds(kinds)
    return Wanted(kinds=tuple(found), named=frozenset(named), severities=tuple(parse_severities(severities)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A kind at a severity. covered, changed: (examples,) bool, what it applies to and what it alters."""

    kind: Kind
    severity: int
    transform: Perturbation
    covered: NDArray[np.bool_]
    changed: NDArray[np.bool_]

    @property
    def name(self) -> str:
        return f"{self.kind.name}-{self.severity}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """parts: those of a kind one after another.  left_out: kind -> why."""

    parts: tuple[Part, ...]
    left_out: Mapping[str, str]

    @property
    def decodings(self) -> int:
        return sum(int(part.changed.sum()) for part in self.parts)


def make_plan(wanted: Wanted, evaluator: Evaluator, groups: Groups, split: str) -> Plan:
    """Plan what is to be decoded of `groups`.

    A kind that nothing here can show is left out, with the reason; `InputError` where it was named singly, or where
    none is left.
    """
    corpus = evaluator.corpus
    material = Material(
        corpus=corpus,
        reader=evaluator.reader,
        split=split,
        seed=wanted.seed,
        extract=Extractor(corpus),
        rule=evaluator.recipe.corpus.image_rule(training=False),
    )
    parts: list[Part] = []
    left_out: dict[str, str] = {}
    for kind in track(wanted.kinds, "planning perturbations"):
        problem = _unable(kind, evaluator)
        if problem is None:
            of_kind = [_part(kind, severity, material, groups) for severity in wanted.severities]
            if of_kind[0].covered.any():
                parts += of_kind
                continue
            problem = _nothing(kind, corpus, groups)
        if kind.name in wanted.named:
            raise InputError(f"--perturb {kind.name}: {problem}")
        left_out[kind.name] = problem
    if not parts:
        name, problem = next(iter(left_out.items()))
        raise InputError(f"--perturb: no kind can be applied here; {name}: {problem}")
    return Plan(parts=tuple(parts), left_out=left_out)


def _part(kind: Kind, severity: int, material: Material, groups: Groups) -> Part:
    transform = perturbation(kind, severity, material)
    covered, changed = transform.covers(groups), transform.changes(groups)
    transform.forget()
    return Part(kind=kind, severity=severity, transform=transform, covered=covered, changed=changed)


def _unable(kind: Kind, evaluator: Evaluator) -> str | None:
    """Why this model and corpus cannot show what the kind does; None where they can."""
    if kind.is_text:
        return None
    if not evaluator.recipe.network.vision.enabled:
        return "the model sees no images"
    return why_no_pictures(evaluator.corpus) if kind.family == "pixels" else None


def _nothing(kind: Kind, corpus: Corpus, groups: Groups) -> str:
    """Why it applies to no example."""
    if kind.name == "wrong_document":
        return "the split has no other document in any of the source languages"
    if kind.is_text:
        return f"it is not defined for any of the source languages: {', '.join(source_languages(corpus, groups))}"
    if kind.name == "wrong_images":
        return "no other story of the split has images"
    return "none of the examples has images"


def source_languages(corpus: Corpus, groups: Groups) -> list[str]:
    """Of the documents, by name."""
    return sorted({corpus.languages[number] for number in corpus.articles["language"][groups.source[:, 0]].tolist()})


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """Why -> the kinds that are left out for it."""
    found: dict[str, list[str]] = {}
    for name, why in left_out.items():
        found.setdefault(why, []).append(name)
    return found
