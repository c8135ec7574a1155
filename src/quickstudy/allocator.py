"""Memory that stays mapped: on a CPU, half of a training step can be glibc mapping its large tensors anew.

``QUICKSTUDY_ALLOCATOR=system`` in the environment leaves the allocator as it is.
"""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = -1


def keep_memory_mapped() -> bool:
    """Tell glibc to keep freed memory and to serve large tensors from it, for about 1.4 times the memory.

    Returns:
        Whether it was done: only on Linux with glibc, and not where the environment says otherwise.
    """
    if os.environ.get("QUICKSTUDY_ALLOCATOR") == "system" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _NEVER), mallopt(_M_TOP_PAD, 64 << 20)]
    return all(done)
