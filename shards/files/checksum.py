"""Compute CRC32C, against which every byte of a corpus is checked when it is read."""

from fastcrc import crc32


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """Return the CRC32C of what `before` was taken over, followed by `data` (contiguous memory)."""
    return crc32.iscsi(data, before)
