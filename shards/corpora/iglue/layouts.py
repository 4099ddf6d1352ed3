"""Say how XVNLI, xGQA and MaRVL are laid out by IGLUE (Bugliarello et al. 2022) and by their own authors.

    xvnli   annotations/LANGUAGE/{train,dev,test}.jsonl (github.com/e-bug/iglue, datasets/XVNLI). A line has
            `gold_label` (contradiction, neutral, entailment; "-" for none), `sentence2` (the hypothesis), `pairID` (the
            same in all languages) and `Flikr30kID`: the picture ID.jpg of Flickr30k.
    xgqa    few_shot/LANGUAGE/test.json, else zero_shot/testdev_balanced_questions_LANGUAGE.json (adapter-hub/xGQA; in
            IGLUE datasets/xGQA/annotations); and GQA's {train,val}_balanced_questions.json. All are objects: id ->
            `question`, `answer` (English), `imageId`: the picture ID.jpg. LXMERT's {train,valid}.json will do for
            GQA's: a list of `question_id`, `sent`, `label` (answer -> score) and `img_id`.
    marvl   marvl-LANGUAGE.jsonl: `id`, `caption`, `label`, `concept`, `left_img` and `right_img`, pictures in
            LANGUAGE/images/CONCEPT; and NLVR2's {train,dev,test1}.json (lil-lab/nlvr; in IGLUE .jsonl, and test):
            `identifier` (split-set-pair-sentence), `sentence`, `label`; pictures split-set-pair-img0.png, -img1.

Nothing else is read: few-shot training files, machine translations, and IGLUE's pickles of GQA, which are the files
above in a form that runs code when it is opened.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import PurePosixPath
from typing import Any

from shards.corpora.captions.index import PICTURES
from shards.text.lines import check_encodable

_TRAIN, _VALIDATION, _TEST = "train", "validation", "test"
_PACKED = r"(?:\.gz|\.bz2|\.xz)?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One example in one language. label: None where its annotators did not agree on one.

    pictures: names in order, without the kind of file, perhaps with the directories that they lie in.
    """

    key: str
    text: str
    label: str | None
    pictures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The published form of one data set.

    wants: what --data must hold.  place: path of a file of annotations -> (its language, its split), None for others.
    parse: one of its records -> the example; ValueError says what is wrong with it.  labels: those that there are, None
    for any.  lines: a record is a line of JSON; else a file is one list or object.  by_language: pictures of one name
    may lie in the directories of several languages.
    """

    wants: str
    place: Callable[[str], tuple[str, str] | None]
    parse: Callable[[Mapping[str, Any]], Example]
    labels: frozenset[str] | None
    lines: bool = True
    by_language: bool = False


def _string(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if type(value) is int:  # an id
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"has no {name!r}")
    try:
        check_encodable(value)
    except ValueError as error:
        raise ValueError(f"{name!r} {error}") from error
    return value


def _picture(name: str) -> str:
    """Return the name of a picture without the kind of file, where it has one."""
    return str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(PICTURES) else name


def _place_xvnli(path: str) -> tuple[str, str] | None:
    match = re.fullmatch(rf"(?:(?:.*/)?annotations/)?([a-z]{{2}})/(train|dev|test)\.jsonl{_PACKED}", path)
    if match is None:
        return None
    language, split = match[1], {"train": _TRAIN, "dev": _VALIDATION, "test": _TEST}[match[2]]
    return (language, split) if language == "en" or split == _TEST else None


def _parse_xvnli(record: Mapping[str, Any]) -> Example:
    label = _string(record, "gold_label")
    return Example(
        key=_string(record, "pairID"),
        text=_string(record, "sentence2"),
        label=None if label == "-" else label,
        pictures=(_picture(_string(record, "Flikr30kID")),),
    )


def _place_xgqa(path: str) -> tuple[str, str] | None:
    if match := re.fullmatch(rf"(?:.*/)?(train|val|valid)(?:_balanced_questions)?\.json{_PACKED}", path):
        return "en", _TRAIN if match[1] == "train" else _VALIDATION
    test = r"few_shot/([a-z]{2})/test|zero_shot/testdev_balanced_questions_([a-z]{2})"
    match = re.fullmatch(rf"(?:.*/)?(?:{test})\.json{_PACKED}", path)
    return None if match is None else (match[1] or match[2], _TEST)


def _parse_xgqa(record: Mapping[str, Any]) -> Example:
    if "sent" not in record:
        return Example(
            key=_string(record, "question_id"),
            text=_string(record, "question"),
            label=_string(record, "answer"),
            pictures=(_string(record, "imageId"),),
        )
    scores = record.get("label")
    if not isinstance(scores, dict) or not all(
        type(score) is int or (type(score) is float and isfinite(score)) for score in scores.values()
    ):
        raise ValueError("has no 'label' of answers and their scores")
    best = max(scores, key=lambda answer: scores[answer], default=None)
    return Example(
        key=_string(record, "question_id"),
        text=_string(record, "sent"),
        label=best if best is not None and scores[best] > 0 else None,
        pictures=(_string(record, "img_id"),),
    )


def _place_marvl(path: str) -> tuple[str, str] | None:
    if match := re.fullmatch(rf"(?:.*/)?marvl-([a-z]{{2}})\.jsonl{_PACKED}", path):
        return match[1], _TEST
    match = re.fullmatch(rf"(?:.*/)?(train|dev|test|test1)\.jsonl?{_PACKED}", path)
    return None if match is None else ("en", {"train": _TRAIN, "dev": _VALIDATION}.get(match[1], _TEST))


def _parse_marvl(record: Mapping[str, Any]) -> Example:
    label = str(record.get("label")).lower()
    if "identifier" in record:  # NLVR2
        key = _string(record, "identifier")
        pair = key.rpartition("-")[0]
        return Example(
            key=key, text=_string(record, "sentence"), label=label, pictures=(f"{pair}-img0", f"{pair}-img1")
        )
    names = (_picture(_string(record, side)) for side in ("left_img", "right_img"))
    return Example(
        key=_string(record, "id"),
        text=_string(record, "caption"),
        label=label,
        pictures=tuple(name if "/" in name else f"{_string(record, 'concept')}/{name}" for name in names),
    )


LAYOUTS: Mapping[str, Layout] = {
    "xvnli": Layout(
        wants="annotations/en/{train,dev,test}.jsonl, annotations/LANGUAGE/test.jsonl, and pictures of Flickr30k",
        place=_place_xvnli,
        parse=_parse_xvnli,
        labels=frozenset({"contradiction", "neutral", "entailment"}),
    ),
    "xgqa": Layout(
        wants="few_shot/LANGUAGE/test.json of xGQA, {train,val}_balanced_questions.json of GQA, and GQA's pictures",
        place=_place_xgqa,
        parse=_parse_xgqa,
        labels=None,
        lines=False,
    ),
    "marvl": Layout(
        wants="marvl-LANGUAGE.jsonl of MaRVL, {train,dev,test1}.json of NLVR2, and the pictures of both",
        place=_place_marvl,
        parse=_parse_marvl,
        labels=frozenset({"true", "false"}),
        by_language=True,
    ),
}
