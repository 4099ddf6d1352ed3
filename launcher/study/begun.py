"""Keep the definition that a study was begun with beside its trainings (begun.yaml), and compare today's with it."""

from pathlib import Path

from launcher.study.definition import Definition, load_study
from shards.errors import InputError
from shards.files.strict_yaml import write_yaml
from shards.files.write import write_atomically

BEGUN = "begun.yaml"


def check_definition(definition: Definition, out: Path) -> None:
    """Raise `InputError`, which names the first key, where `out` was begun with another definition.

    Models and seeds may be added: finished trainings stay valid. All else changes trainings or conclusions.
    """
    path = out / BEGUN
    if not path.is_file():
        return
    begun = load_study(str(path))
    changed = [
        *(f"models.{name} {recipe}" for name, recipe in begun.models.items() if definition.models.get(name) != recipe),
        *(f"after.{name} {read}" for name, read in begun.after.items() if definition.after.get(name) != read),
        *(f"other only.{name}" for name in begun.models if definition.only.get(name, ()) != begun.only.get(name, ())),
        *(f"seed {seed}" for seed in begun.seeds if seed not in definition.seeds),
        *(
            f"other {key}"
            for key in ("baseline", "overrides", "claims")
            if getattr(begun, key) != getattr(definition, key)
        ),
    ]
    if changed:
        raise InputError(
            f"{out} was begun with {changed[0]}, and the study has changed since: restore what {path} has, or choose "
            f"another --out; without {path} it goes on as the study is now, as far as its trainings fit"
        )


def keep_definition(definition: Definition, out: Path) -> None:
    """Write what `check_definition` reads. Raises `InputError` where that cannot be done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / BEGUN, write_yaml(definition.model_dump(mode="json")).encode())
    except OSError as error:
        raise InputError(f"{out / BEGUN} cannot be written ({error.strerror}): choose another --out") from error
