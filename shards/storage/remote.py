"""Read files behind an http(s):// or s3:// URL in ranges, through fsspec.

Settings that are not ours stay with the libraries: proxies and .netrc for http, the AWS variables and files (and
`AWS_ENDPOINT_URL` for a store of your own) for s3, `FSSPEC_S3_ANON=true` for a public bucket.
"""

import errno
import random
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from shards.errors import InputError
from shards.locations import shown, without_secrets

SCHEMES = ("http", "https", "s3")
#: Files are downloaded in pieces of this many bytes, one request each.
PIECE = 16 * 1024 * 1024
#: Seconds before each further attempt at a piece. A start of many ranks is what a server refuses most easily.
_WAITS = (0.3, 1.0, 3.0)


class RemoteStorage:
    """The files under a URL, as a `Storage`: every read is one request, tried once. Threads may share it.

    `InputError` for a URL of another kind, and where the libraries for it are not installed.
    """

    def __init__(self, url: str, *, connect_seconds: float = 10, read_seconds: float = 60) -> None:
        """`read_seconds` bounds the wait for the next bytes, not for all of them."""
        self._url = url.rstrip("/")
        self._http = _scheme(url) != "s3"
        try:
            import aiohttp
            import fsspec

            self._failures: tuple[type[Exception], ...] = (OSError, aiohttp.ClientError)
            self._unreachable: tuple[type[Exception], ...] = (
                aiohttp.ClientConnectorError,
                aiohttp.ConnectionTimeoutError,
            )
            self._timeouts: tuple[type[Exception], ...] = (TimeoutError,)
            if self._http:
                # Redirects and keys may take a connection of their own, so the total has no bound.
                timeout = aiohttp.ClientTimeout(total=None, connect=connect_seconds, sock_read=read_seconds)
                options: dict[str, Any] = {
                    "client_kwargs": {
                        "timeout": timeout,
                        "trust_env": True,
                        "headers": {"Accept-Encoding": "identity"},  # a range of a compressed body is of no use
                        "raise_for_status": _refuse_whole_file,
                    }
                }
            else:
                from botocore import exceptions

                self._failures += (exceptions.BotoCoreError, exceptions.ClientError)
                self._unreachable += (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError)
                self._timeouts += (exceptions.ReadTimeoutError,)
                options = {
                    "config_kwargs": {
                        "connect_timeout": connect_seconds,
                        "read_timeout": read_seconds,
                        "retries": {"total_max_attempts": 1},
                    }
                }
            # An instance of our own: fsspec would share one, and its connections, with who asks for the same.
            self._fs: Any = fsspec.filesystem(_scheme(url), skip_instance_cache=True, **options)
        except ImportError as error:
            raise InputError(
                f"{shown(url)} cannot be read ({' '.join(str(error).split())}): pip install 'd2tv[remote]'"
            ) from error
        if not self._http:
            self._fs.retries = 1  # s3fs would try five times by itself

    def readv(self, name: str, parts: Sequence[memoryview], offset: int) -> int:
        """Fill `parts` from `offset` of `name` on. Any other number of bytes than asked for is an `OSError`."""
        wanted = sum(map(len, parts))
        if not wanted:
            return 0
        data = memoryview(self.read(name, offset, offset + wanted))
        if len(data) != wanted:
            raise OSError(errno.EIO, f"{len(data)} bytes came where {wanted} were asked for", self.shown(name))
        begin = 0
        for part in parts:
            part[:] = data[begin : begin + len(part)]
            begin += len(part)
        return wanted

    def read(self, name: str, begin: int | None = None, end: int | None = None) -> bytes:
        """Return bytes `begin` .. `end` of `name`, or all of them. Fewer where the file ends before.

        Raises `OSError` with a `strerror` of one line: `FileNotFoundError` and `PermissionError` for what the server
        refuses, errno EHOSTUNREACH where there is no connection, EOPNOTSUPP where the server does not do ranges.
        """
        try:
            data: bytes = self._fs.cat_file(self._member(name), start=begin, end=end)
        except self._failures as error:
            if _lies_past_the_end(error):
                return b""
            # Not chained: the library's own error may show the URL with what is secret in it.
            raise self._translated(error, name) from None
        return data

    def piece(self, name: str, begin: int, size: int) -> bytes:
        """Return `PIECE` bytes of `name` from `begin` on, or fewer at its end. `OSError` if it is not of `size`."""
        end = min(begin + PIECE, size)
        # One byte more than there should be: it would come if the file was longer.
        data = self.read(name, begin, end + (end == size))
        if len(data) != end - begin:
            raise OSError(errno.EIO, f"it is not of the {size} bytes that the manifest says", self.shown(name))
        return data

    def forget(self, name: str) -> None:
        """Do nothing: nothing is kept of `name`."""

    def close(self) -> None:
        self._fs = None  # its connections are closed with it

    def shown(self, name: str) -> str:
        """Return the address of `name` for a message."""
        return f"{shown(self._url)}/{name}"

    def _member(self, name: str) -> str:
        if not self._http:
            return f"{self._url}/{name}"
        base, mark, query = self._url.partition("?")  # a query, a signature often, goes with every file
        return f"{base.rstrip('/')}/{quote(name)}{mark}{query}"

    def _translated(self, error: Exception, name: str) -> OSError:
        status = getattr(error, "status", None)
        if isinstance(error, FileNotFoundError) or status in (404, 410):
            number, text = errno.ENOENT, "there is no such file (404)"
        elif isinstance(error, PermissionError) or status in (401, 403):
            number, text = errno.EACCES, f"access is denied ({status or 403}): check the credentials"
        elif isinstance(error, self._unreachable):
            number, text = errno.EHOSTUNREACH, f"no connection ({_one_line(error)})"
        elif isinstance(error, self._timeouts):
            number, text = errno.ETIMEDOUT, "the server took too long to answer"
        elif status is not None:
            number, text = errno.EIO, f"HTTP {status} {_one_line(getattr(error, 'message', ''))}".rstrip()
        else:
            number, text = getattr(error, "errno", None) or errno.EIO, _one_line(error)
        return OSError(number, text, self.shown(name))


def patiently(read: Callable[[], bytes]) -> bytes:
    """Return what `read` does, tried again for what may pass: an overloaded server, not one that is not there."""
    for wait in _WAITS:
        try:
            return read()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EACCES, errno.EHOSTUNREACH, errno.EOPNOTSUPP):
                raise
            time.sleep(wait * random.uniform(0.5, 1.5))  # not in step with the other ranks
    return read()


def _scheme(url: str) -> str:
    """Return the scheme of a URL that can be read; `InputError` for any other."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is not a number, or a bracket is missing
        valid = False
    if not valid:
        raise InputError(
            f"{shown(url)} is not a URL that can be read: use http://HOST/PATH, https://HOST/PATH, s3://BUCKET/PATH, "
            "or a directory"
        )
    return parts.scheme


async def _refuse_whole_file(response: Any) -> None:
    """Stop at the headers of an answer that would be a whole shard where a part was asked for."""
    if "Range" in response.request_info.headers and response.status == 200:
        response.close()
        raise OSError(errno.EOPNOTSUPP, "the server does not answer range requests (200 where 206 is due)")


def _lies_past_the_end(error: Exception) -> bool:
    """Return True if the server refused a range because the file ends before it."""
    answer = getattr(error.__cause__, "response", None)  # botocore's error, under the one that s3fs makes of it
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return getattr(error, "status", None) == 416 or code in ("InvalidRange", "416")


def _one_line(error: object) -> str:
    """Return the text of an error without line breaks, and without what is secret in the URLs it names."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return without_secrets(text)[:300]
