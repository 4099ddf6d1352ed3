"""CRC32C: what every byte of a corpus is checked against when it is read."""

from fastcrc import crc32


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """The CRC32C of what `before` was taken over, followed by `data` (contiguous memory, which is not copied)."""
    return crc32.iscsi(data, before)
