"""Read a run directory: its recipe, records, checkpoints and evaluations."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import InputError, reason
from shards.files.read import read_json, read_regular
from shards.files.strict_yaml import read_yaml
from shards.format.manifest import SPLITS
from shards.printable import one_line
from trainer.runs.history import History
from trainer.runs.tail import Tail, read_records

#: Names in a run directory; a run that has not begun has none of them.
_OF_A_RUN = (
    *("recipe.yaml", "metrics.jsonl", "unreadable.jsonl", "checkpoints", "evaluation", "stacks", "report.html"),
    *(".lock", ".ranks.lock"),  # trainer/runs/lock.py
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Placeholders:
    """Examples of a direction that could not be read. step, problem: of the newest one."""

    source: str
    target: str
    examples: int
    step: int
    problem: str


class RunDirectory:
    """A run, read again at every `refresh`. recipe: of recipe.yaml, of any release; empty before it is written.

    Raises `InputError` for a directory that is no run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe: dict[str, Any] = {}
        self.recipe_text = ""
        self.history = History()
        self._tail = Tail(path / "metrics.jsonl")
        self._recipe_of: tuple[int, int] | None = None
        _check(path)
        self.refresh()

    @property
    def name(self) -> str:
        return one_line(self.path.resolve().name)

    def refresh(self) -> None:
        """Read the recipe and the records that were written since the last time."""
        self._read_recipe()
        if self._tail.renewed():
            self.history = History()
        for line in self._tail.lines():
            self.history.add(line)

    def setting(self, *keys: str) -> Any:
        """Return a value of the recipe, None where it has none."""
        value: Any = self.recipe
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def count(self, *keys: str) -> int | None:
        """Return a setting that is a whole number above 0; None for anything else."""
        value = self.setting(*keys)
        return value if type(value) is int and value > 0 else None

    @property
    def planned(self) -> int | None:
        """Steps that the run will take."""
        return self.count("training", "steps")

    @property
    def objective(self) -> Any:
        """The objective's name in the recipe, None where it has none."""
        return self.setting("objective", "name")

    @property
    def corpus(self) -> Any:
        """The corpus' path in the recipe, None where it has none."""
        return self.setting("corpus", "path")

    def checkpoint(self, name: str) -> str | None:
        """Return the checkpoint that `latest` or `best` names, None where there is none."""
        try:
            named = read_regular(self.path / "checkpoints" / name, most=4096)
            return one_line(named.decode(errors="replace").strip())
        except OSError:
            return None

    def placeholders(self) -> list[Placeholders]:
        """Return the directions of examples that could not be read, those with the most first."""
        counts: Counter[tuple[str, str]] = Counter()
        newest: dict[tuple[str, str], Mapping[str, Any]] = {}
        for record in read_records(self.path / "unreadable.jsonl"):
            pair = str(record.get("source")), str(record.get("target"))
            counts[pair] += 1
            newest[pair] = record
        return [
            Placeholders(
                source=pair[0],
                target=pair[1],
                examples=count,
                step=newest[pair]["step"],
                problem=one_line(str(newest[pair].get("problem"))),
            )
            for pair, count in counts.most_common()
        ]

    def evaluations(self) -> dict[str, dict[str, Any] | None]:
        """Return the reports of the run's own evaluations by split; None for one that cannot be read."""
        return self._reports("*.json")

    def kept_evaluations(self) -> dict[str, dict[str, Any] | None]:
        """Return the same of those kept beside them (trainer/evaluation/kept.py), by `<label>/<split>`."""
        return self._reports("*/*.json")

    def has_evaluation_page(self, name: str) -> bool:
        """Return True if the evaluation `name`, as the keys of these are, has a page."""
        return (self.path / "evaluation" / f"{name}.html").is_file()

    def _reports(self, pattern: str) -> dict[str, dict[str, Any] | None]:
        found: dict[str, dict[str, Any] | None] = {}
        folder = self.path / "evaluation"
        for path in sorted(folder.glob(pattern)):
            if path.stem not in SPLITS:  # such as test-robustness.json
                continue
            try:
                report = read_json(path)
            except (OSError, ValueError):
                report = None
            name = path.relative_to(folder).with_suffix("").as_posix()
            found[name] = report if isinstance(report, dict) else None
        return found

    def _read_recipe(self) -> None:
        path = self.path / "recipe.yaml"
        try:
            found = path.stat()
            if (found.st_mtime_ns, found.st_ino) == self._recipe_of:
                return
            text = read_regular(path).decode()
            recipe = read_yaml(text, "it")
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:  # InputError and UnicodeDecodeError are ValueErrors
            raise InputError(
                f"{path} is no recipe ({reason(error)}): copy it back from a checkpoint of the run"
            ) from error
        self.recipe = recipe if isinstance(recipe, dict) else {}
        self.recipe_text = text
        self._recipe_of = (found.st_mtime_ns, found.st_ino)


def _check(path: Path) -> None:
    """Raise `InputError` for a path that is no run."""
    if not path.exists():
        raise InputError(f"there is no {path}: name the directory that the training was given as run=")
    if not path.is_dir():
        raise InputError(f"{path} is a file: name the run directory, like {path.resolve().parent}")
    if (path / "manifest.json").is_file() and (path / "recipe.yaml").is_file():
        run = path.resolve().parent.parent
        if (run / "checkpoints").is_dir():
            raise InputError(f"{path} is a checkpoint: name its run, {run}")
        raise InputError(f"{path} is an exported model, not a run: name the directory that the training had as run=")
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): mend its permissions") from error
    if names and not set(names) & set(_OF_A_RUN):
        raise InputError(
            f"{path} is no run: it holds neither recipe.yaml nor metrics.jsonl; name the directory that the training "
            "was given as run="
        )
