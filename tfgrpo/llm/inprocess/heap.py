"""How little memory a process keeps that it does not use."""

from __future__ import annotations

import ctypes
import os
import sys

KERNELS = "64"
"""Matrix products whose kernels are kept."""


def give_back() -> None:
    """Hand freed pages of this process back to the system; does nothing where that is not glibc.

    glibc keeps freed blocks below 32 MiB, in a heap of each thread: the phases of a training step
    and its sampler's threads would each add their peak to the others'. Takes milliseconds.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def keep_few_kernels() -> None:
    """Bound torch's caches of kernels, unless the environment does; before the first product.

    In bfloat16 on a CPU every shape gets kernels of its own, half a megabyte, of which oneDNN keeps
    1024 and torch as many again for each thread. Rows that come and go have ever new shapes, and a
    new kernel costs next to nothing.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, KERNELS)
