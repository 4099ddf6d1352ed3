"""Hold how the training split of a corpus is augmented (ACROSS, section 3.3), and check it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from shards.directions import parse_directions
from shards.errors import InputError

#: Which sentences are translated: those of the highest ROUGE-1 against the summary, or ACROSS' contrasts (Table 3).
Choice = Literal["informative", "uninformative", "random", "truncation"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
PARALLEL = "parallel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Hold what decides the variants of a corpus.

    share: percent of a document's sentences that are translated.  directions: a pattern as in `shards.directions`; of
    its directions the cross-lingual ones are augmented.  translator: "parallel", or a model's directory.
    seed: of the choice `random`.
    """

    choice: Choice
    share: int = 50
    directions: str = "*-en"
    translator: str = PARALLEL
    seed: int = 0

    @property
    def model(self) -> Path | None:
        """Return the directory of the translation model, None where parallel articles are the translation."""
        return None if self.translator == PARALLEL else Path(self.translator)

    def noted(self) -> dict[str, Any]:
        """Return them as the manifest keeps them: a model by its kind, for its directory may move."""
        return {
            "choice": self.choice,
            "share": self.share,
            "directions": self.directions,
            "translator": PARALLEL if self.model is None else "model",
            **({"seed": self.seed} if self.choice == "random" else {}),
        }


def augmentation_of(
    choice: str | None,
    *,
    share: int | None = None,
    directions: str | None = None,
    translator: str | None = None,
    seed: int | None = None,
) -> Augmentation | None:
    """Return the augmentation that options ask for, None where they ask for none.

    Raises: InputError for options without a choice, an unknown choice and a share that is none.
    """
    options = {"share": share, "directions": directions, "translator": translator, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if choice is None:
        if given:
            name = next(iter(given))
            option = "--translator" if name == "translator" else f"--augment-{name}"
            raise InputError(f"{option} is for --augment: give that too ({', '.join(CHOICES)}), or leave it out")
        return None
    known = next((name for name in CHOICES if name == choice), None)
    if known is None:
        raise InputError(f"--augment {choice!r} is none of {', '.join(CHOICES)}")
    if share is not None and not 1 <= share <= 100:
        raise InputError(f"--augment-share {share}: it is a percentage of sentences, 1 to 100")
    return replace(Augmentation(choice=known), **given)


def augmented_directions(settings: Augmentation, languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return target language -> the source languages that its articles get variants in.

    Raises: InputError for a pattern that names no cross-lingual direction between `languages`.
    """
    found: dict[str, list[str]] = {}
    try:
        directions = parse_directions(settings.directions, languages)
    except InputError as error:
        raise InputError(f"--augment-directions {settings.directions}: {error}") from error
    for source, target in directions:
        if source != target:
            found.setdefault(languages[target], []).append(languages[source])
    if not found:
        raise InputError(
            f"--augment-directions {settings.directions}: it names no direction from one language to another, and a "
            "translation into the article's own language is none"
        )
    return {target: tuple(sources) for target, sources in found.items()}
