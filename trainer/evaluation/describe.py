"""Say in words what an evaluation's report holds beside its scores. Reads reports of any release; imports no torch."""

from collections.abc import Mapping
from typing import Any

from trainer.evaluation.baseline_names import describe_lead
from trainer.evaluation.baselines.report import lead_words, losses
from trainer.evaluation.scoring.similarity import SIMILARITY
from trainer.recipe.profiles import profile_of

#: Before a score below LEAD's; the second where p >= 0.05.
BELOW, BELOW_BY_CHANCE = "↓", "(↓)"
_SHOWN = 5


def profile_in(report: Mapping[str, Any]) -> str:
    """Return the profile of a report's ROUGE."""
    profile = _section(report.get("rouge")).get("profile")
    return profile if isinstance(profile, str) else profile_of(report)


def describe_rouge(report: Mapping[str, Any]) -> list[str]:
    """Return a line for each kind of text that ROUGE could not score."""
    rouge = _section(report.get("rouge"))
    found = []
    if counts := _counts(rouge.get("empty_predictions")):
        found.append(f"{_total(counts)} predictions without a word score 0 ({_shown(counts)})")
    if counts := _counts(rouge.get("empty_references")):
        found.append(f"{_total(counts)} references without a word: their examples are in no mean ({_shown(counts)})")
    for language, of in _section(rouge.get("no_segmenter")).items():
        if isinstance(of, dict):
            missed = f"{of.get('references', '?')} examples have no ROUGE, {of.get('documents', '?')} no novelty"
            found.append(f"{missed}: {language}: {of.get('why', '?')}")
    return found


def describe_similarity(report: Mapping[str, Any]) -> str | None:
    """Return the languages that the sentence encoder scored and did not; None for a report without the measure."""
    facts = report.get(SIMILARITY)
    if not isinstance(facts, dict):
        return None
    languages, unscored = facts.get("languages"), facts.get("unscored")
    scored = ", ".join(map(str, languages)) if isinstance(languages, list) else ""
    text = f"USE: {facts.get('model')}, targets in {scored or 'no language that it knows'}"
    if isinstance(unscored, dict) and unscored:
        left = ", ".join(f"{language} {count}" for language, count in unscored.items())
        text += f"; not scored (a language that it does not know, or an empty reference): {left}"
    return text


def describe_baselines(report: Mapping[str, Any]) -> list[str]:
    """Return lines on the kinds in which the model loses to LEAD, on LEAD's length and on gaps of the baselines."""
    lines = []
    for kind, lost in losses(report).items():
        best = lost[0]
        names = ", ".join(f"R-{loss.measure.removeprefix('rouge')}" for loss in lost)
        chance = ", which may be chance" if all(loss.by_chance for loss in lost) else ""
        lines.append(
            f"{BELOW} {kind.upper()} loses to LEAD in {names} ({best.model:.2f} against {best.lead:.2f}){chance}"
        )
    lines.append(
        f"LEAD: the document's first k words, by target language's median summary: {describe_lead(lead_words(report))}"
    )
    if uncut := _counts(report["baselines"].get("lead")).get("uncut"):
        lines.append(f"baselines write nothing for {uncut} examples, whose documents no segmenter cuts")
    nearest = _counts(report["baselines"].get("nearest"))
    if nearest.get("without_story"):
        lines.append(f"nearest story: {nearest['without_story']} examples share no word with a training document")
    if nearest.get("unreadable"):
        lines.append(f"nearest story: {nearest['unreadable']} training articles could not be read")
    if nearest.get("training_documents", 0) < nearest.get("of", 0):
        lines.append(f"nearest story: of {nearest['training_documents']:,} of {nearest['of']:,} training documents")
    return lines


def without_images(report: Mapping[str, Any]) -> str | None:
    """Return a line with the examples that had no image; None where all had one, or the model sees none."""
    counts = _counts(report.get("without_images"))
    if not any(counts.values()):
        return None
    kinds = ", ".join(f"{count} {kind.upper()}" for kind, count in counts.items() if count)
    return f"{sum(counts.values())} of {report.get('examples', '–')} examples had no image ({kinds})"


def describe_alignment(report: Mapping[str, Any]) -> str | None:
    """Return recall@1 over the directions that were measured; None for a report without any."""
    alignment = _section(report.get("alignment"))
    stories = sorted(
        _counts({name: of["stories"] for name, of in _section(alignment.get("directions")).items()}).values()
    )
    if not stories:
        return None
    each = f"{stories[0]} to {stories[-1]}" if stories[0] < stories[-1] else str(stories[0])
    number = "1 direction" if len(stories) == 1 else f"{len(stories)} directions"
    left_out = f"; {alignment['unreadable']} unreadable" if alignment["unreadable"] else ""
    return (
        f"alignment: recall@1 {alignment['recall1']:.2f} over {number}, {each} stories each; "
        f"chance {alignment['chance']:.2f}{left_out}"
    )


def describe_classification(report: Mapping[str, Any]) -> list[str]:
    """Return lines on examples that count as wrong, or not at all."""
    found = _section(report.get("classification"))
    counts = _counts(found.get("counts"))
    reasons = {"outside": "have a label that training did not know, and count as wrong", "unlabelled": "have no label"}
    lines = [f"{counts[key]} examples {text}" for key, text in reasons.items() if counts.get(key)]
    if left_out := _counts(found.get("left_out")):
        lines.append("when the corpus was made: " + ", ".join(f"{kind} {count}" for kind, count in left_out.items()))
    return [*lines, *([f"{report['unreadable']} examples unreadable"] if report.get("unreadable") else [])]


def describe_representation(report: Mapping[str, Any]) -> list[str]:
    """Return lines on the gallery, and on the examples that were left out."""
    found = _section(report.get("representation"))
    sizes = sorted(of["gallery"] for of in _section(found.get("by_language")).values())
    lines = []
    if sizes:
        gallery = _between(f"{sizes[0]:,}", f"{sizes[-1]:,}")
        without = [name for name, of in _section(found.get("by_language")).items() if not of["gallery"]]
        lines += [f"no training example with a label and an image in {', '.join(without)}: no R@k"] if without else []
        lines.append(f"R@k: one of the k nearest of {gallery} training examples of the language has the class")
    if outside := found.get("outside"):
        lines.append(f"{outside} examples have a label that training did not know, and count as wrong")
    reasons = {"without_image": "without an image", "unlabelled": "without a label"}
    left_out = _counts(found.get("left_out"))
    lines += [f"left out: {left_out[key]} examples {text}" for key, text in reasons.items() if left_out.get(key)]
    return [*lines, *([f"{report['unreadable']} examples unreadable"] if report.get("unreadable") else [])]


def describe_translation(report: Mapping[str, Any]) -> list[str]:
    """Return a line a kind with the scores of each language's translations together; none for another task."""
    lines = []
    for kind, of in _section(report.get("translation")).items():
        if isinstance(of, dict) and "by_target" in of:
            lines.append(
                f"{kind.upper()}: chrF {of['chrf']:.2f}, BLEU {of['bleu']:.2f}, of each language's translations "
                f"together (sacrebleu), the mean of {len(of['by_target'])} languages"
            )
    return lines


def describe_retrieval(report: Mapping[str, Any]) -> list[str]:
    """Return lines on the candidates of retrieval: what chance gives among them, and what was left out."""
    retrieval = _section(report.get("retrieval"))
    left_out = _counts(retrieval.get("left_out"))
    sizes = sorted(of["candidates"] for of in _section(retrieval.get("by_language")).values())
    lines = []
    if sizes:
        stories = _between(str(sizes[0]), str(sizes[-1]))
        chances = _between(f"{100 / sizes[-1]:.1f}", f"{100 / sizes[0]:.1f}")
        lines.append(f"{stories} stories a language, among which chance finds its own in {chances} per cent")
    reasons = {"without_image": "without an image", "same_name": "with the name of another story"}
    lines += [f"left out: {left_out[key]} stories {text}" for key, text in reasons.items() if left_out.get(key)]
    return [*lines, *([f"{report['unreadable']} stories unreadable"] if report.get("unreadable") else [])]


def _between(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _section(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _counts(value: object) -> dict[str, int]:
    return {key: count for key, count in _section(value).items() if type(count) is int}


def _total(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values()):,}"


def _shown(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    rest = len(most) - _SHOWN
    return ", ".join(f"{name} {count:,}" for name, count in most[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
