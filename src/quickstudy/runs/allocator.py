"""Memory that stays mapped: on a CPU, half of a training step can be glibc mapping its large tensors anew.

``QUICKSTUDY_ALLOCATOR=system`` in the environment leaves the allocator as it is.
"""

from __future__ import annotations

import ctypes
import os
import platform

_OPTIONS = {"TRIM_THRESHOLD": -1, "TOP_PAD": -2, "MMAP_THRESHOLD": -3, "MMAP_MAX": -4}  # of mallopt


def kept_mapped() -> dict[str, int]:
    """Return the options by which glibc keeps freed memory and serves large tensors from it.

    glibc before 2.38 seldom finds room for a tensor where one of the same size was: small objects take the bytes that
    it leaves between aligned blocks, and the heap grows to several times what is in use. There, tensors of 64 MB and
    more are mapped anew all the same; not where ``GLIBC_TUNABLES=glibc.malloc.tcache_count=0``, which only the shell
    can set, gives small objects no such bytes.
    """
    finds_room = tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 38)
    finds_room |= "glibc.malloc.tcache_count=0" in os.environ.get("GLIBC_TUNABLES", "").split(":")
    large = {"MMAP_MAX": 0} if finds_room else {"MMAP_THRESHOLD": 64 << 20}
    return {**large, "TRIM_THRESHOLD": -1, "TOP_PAD": 64 << 20}  # -1: freed memory is never given back


def keep_memory_mapped() -> bool:
    """Tell glibc so.

    Returns:
        Whether it was done: only on Linux with glibc, and not where the environment says otherwise.
    """
    if os.environ.get("QUICKSTUDY_ALLOCATOR") == "system" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = [mallopt(_OPTIONS[name], value) for name, value in kept_mapped().items()]
    return all(done)
