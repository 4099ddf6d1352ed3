"""CRC32C of memory that is written in place, without the interpreter's lock, so that threads check side by side."""

import ctypes
from collections.abc import Callable

import google_crc32c
import numpy as np

#: Below this a call into C costs more than the lock is worth.
_SMALL = 16 * 1024


def _library_function() -> Callable[[int, int, int], int] | None:
    """`crc32c_extend(crc, address, size)` of the C library that `google_crc32c` brings; None where it has none.

    The package's own function keeps the lock while it computes; a call through ctypes gives it up.
    """
    try:
        from google_crc32c import _crc32c

        function = ctypes.CDLL(_crc32c.__file__).crc32c_extend
    except (ImportError, OSError, AttributeError):  # the pure Python version, or linked in another way
        return None
    function.argtypes = (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_uint32
    probe = (ctypes.c_char * 9).from_buffer_copy(b"123456789")
    if function(0, ctypes.addressof(probe), 9) != 0xE3069283:  # the check value of the CRC's definition
        return None
    return function


_EXTEND = _library_function()


def extend(crc: int, part: memoryview) -> int:
    """The CRC32C of what `crc` was taken over, followed by `part`: contiguous, writable memory."""
    size = part.nbytes
    if size < _SMALL:
        # The package's function takes bytes or arrays; a copy of so little is cheaper than an array around it.
        return int(google_crc32c.extend(crc, bytes(part)))
    if _EXTEND is None:
        return int(google_crc32c.extend(crc, np.frombuffer(part, np.uint8)))
    return _EXTEND(crc, ctypes.addressof(ctypes.c_char.from_buffer(part)), size)
