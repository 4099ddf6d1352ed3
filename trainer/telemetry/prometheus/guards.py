"""Check the guards of the metrics: a bearer token and TLS. A guard that is asked for never fails open."""

import ipaddress
from pathlib import Path

from shards.errors import InputError
from trainer.recipe.sections import PrometheusSection


def check_guards(settings: PrometheusSection) -> None:
    """Raise `InputError` where a file of the guards is no file, empty or unreadable.

    A file that is missing may come with the job: without it, nothing is served.
    """
    for key in ("token_file", "certificate", "key") if settings.enabled else ():
        path: Path | None = getattr(settings, key)
        try:
            if path is None or not path.exists():
                continue
            if not path.is_file():
                raise InputError(f"prometheus.{key}={path} is no file: name one, or null for none")
            empty = not path.read_bytes().strip()
        except OSError as error:
            raise InputError(
                f"prometheus.{key}={path} cannot be read ({error.strerror}): mend its permissions"
            ) from error
        if empty:
            raise InputError(f"prometheus.{key}={path} is empty: write it, or give null for none")


def exposure(address: str, settings: PrometheusSection) -> str | None:
    """Return a warning about who can read the metrics at `address`, None where only those can who should."""
    if is_loopback(address) or (settings.token_file is not None and settings.certificate is not None):
        return None
    if settings.token_file is None:
        return (
            f"metrics at {address or 'all addresses'} are open to whoever reaches it: set prometheus.token_file and "
            "prometheus.certificate, or prometheus.address to the loopback"
        )
    return f"the token for metrics at {address} crosses the network in clear text: set prometheus.certificate"


def is_loopback(host: str) -> bool:
    """Return True for an address of the loopback, or localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
