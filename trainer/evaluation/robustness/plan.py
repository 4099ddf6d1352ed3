"""Plan `--perturb`: which of the kinds apply to this model and corpus, and which examples they change."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.batch.fields import picture_side
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
    """The perturbations that are asked for. named: those of `kinds` that were named singly, not by their family."""

    kinds: tuple[Kind, ...]
    named: frozenset[str]
    severities: tuple[int, ...]
    seed: int = 0


def parse_wanted(kinds: str, severities: str) -> Wanted:
    """Parse kinds such as `all` or `text,no_images`, and severities such as `1,3,5`. Raises `InputError`."""
    found, named = parse_kinds(kinds)
    return Wanted(kinds=tuple(found), named=frozenset(named), severities=tuple(parse_severities(severities)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A kind at a severity. covered, changed: (examples,) bool, those that it applies to, and those that differ."""

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
    """The perturbations to decode. parts: those of a kind are adjacent.  left_out: kind -> reason."""

    parts: tuple[Part, ...]
    left_out: Mapping[str, str]

    @property
    def decodings(self) -> int:
        return sum(int(part.changed.sum()) for part in self.parts)


def make_plan(wanted: Wanted, evaluator: Evaluator, groups: Groups, split: str) -> Plan:
    """Return the plan for `groups`.

    A kind that does not apply here is left out, with the reason; `InputError` where it was named singly, or where none
    is left.
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
    """Return the reason why the kind has no effect with this model and corpus; None where it has."""
    if kind.is_text:
        return None
    recipe = evaluator.recipe
    features = recipe.network.vision.reads("regions")
    if not features:
        if not picture_side(recipe.needs):
            return "the model sees no images"
        if kind.changes_features:
            return "the model reads pixels and no features"
    if kind.family != "pixels":
        return None
    return why_no_pictures(evaluator.corpus, features=features)


def _nothing(kind: Kind, corpus: Corpus, groups: Groups) -> str:
    """Return the reason why the kind applies to no example."""
    if kind.name == "wrong_document":
        return "the split has no other document in any of the source languages"
    if kind.is_text:
        return f"it is not defined for any of the source languages: {', '.join(source_languages(corpus, groups))}"
    if kind.name == "wrong_images":
        return "no other story of the split has images"
    return "none of the examples has images"


def source_languages(corpus: Corpus, groups: Groups) -> list[str]:
    """Return the languages of the documents, by name."""
    return sorted({corpus.languages[number] for number in corpus.articles["language"][groups.source[:, 0]].tolist()})


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """Return reason -> the kinds that are left out for it."""
    found: dict[str, list[str]] = {}
    for name, why in left_out.items():
        found.setdefault(why, []).append(name)
    return found
