"""Find a pretrained model or tokenizer: in a directory, or on the Hugging Face hub under an id."""

from functools import cache
from pathlib import Path

from shards.errors import InputError, reason
from shards.files.read import read_json

#: Configurations and tokenizers: what is small beside weights.
SMALL_FILES = ("*.json", "*.model")


def directory_of(where: str, what: str, patterns: tuple[str, ...] = SMALL_FILES) -> Path:
    """Return the directory `where`; for a hub id, one with its files that match `patterns`, fetched if need be.

    what: begins the message of the `InputError` for a path that is no directory and an id that the hub has nothing of.
    """
    path = Path(where)
    if where and path.is_dir():
        return path
    if _is_path(where):
        hint = " (no shell replaced the ~)" if where.startswith("~") else ""
        raise InputError(f"{what}: there is no such directory{hint}: give one that exists")
    try:
        return _snapshot(where, patterns)
    except Exception as error:  # those of its HTTP library, too, which changed between versions
        raise InputError(
            f"{what}: there is no such directory, and the hub gives nothing of that id ({reason(error, 1000)}): "
            "give a directory that exists"
        ) from error


def code_in(directory: Path) -> str | None:
    """Return a phrase where the model or tokenizer in `directory` is made of Python code beside it, else None.

    Such code is never run here: what is loaded of `directory` is loaded with trust_remote_code=False.
    """
    for name in ("config.json", "tokenizer_config.json"):
        try:
            settings = read_json(directory / name)
        except (OSError, ValueError):  # loading it reports more
            continue
        if isinstance(settings, dict) and settings.get("auto_map"):
            return f"auto_map in {name} names Python code, which is never run: use a model of transformers' own kinds"
    return None


def _is_path(where: str) -> bool:
    """Return True if `where` cannot be meant as a hub id: looking for it there would cost time and hide the reason."""
    return where.startswith(("/", ".", "~")) or where.count("/") != 1 or Path(where).parent.exists()


@cache  # all of a process then reads one revision
def _snapshot(name: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download  # nothing that a local directory needs

    # Asks the hub once, and takes what was fetched before where it does not answer. The hub's download of single files
    # would try each of them again for 23 s.
    return Path(snapshot_download(name, allow_patterns=list(patterns)))
