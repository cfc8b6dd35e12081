"""Memory that was freed and will be needed again: the allocator keeps some."""

from __future__ import annotations

import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Parameters of glibc's mallopt(3)."""

LARGEST_KEPT: Final = 2**25
"""Bytes of a single allocation that comes from the heap; the most that glibc takes."""
KEPT: Final = 2**24
"""Bytes of free memory at the end of the heap."""


def keep_freed() -> bool:
    """Have up to 16 MiB of freed memory kept; False where the C library has no say in that.

    Kafka's frames of a megabyte are put together, read and freed, again and again. By default glibc
    gives such memory back each time, and the kernel clears every page of it anew: that was two
    fifths of all processor time for batches of 1000 records of 1000 bytes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, KEPT))
