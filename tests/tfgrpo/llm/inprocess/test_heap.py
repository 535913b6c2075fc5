"""A process keeps little of what it no longer uses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RESIDENT = """
import ctypes, os
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def numbers(code: str, **environment: str) -> list[int]:
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT + code],
        env={k: v for k, v in os.environ.items() if "CAPACITY" not in k} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


@linux
def test_freed_pages_go_back_to_the_system() -> None:
    before, freed, after = numbers(
        """
from tfgrpo.llm.inprocess.heap import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
print(resident())
blocks = [libc.malloc(100_000) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:  # the last one pins the end of the heap
    libc.free(block)
print(resident())
give_back()
print(resident())
"""
    )
    if freed - before < 100:
        pytest.skip("this C library gives back by itself")
    assert after - before < 20


@linux
def test_products_of_ever_new_shapes_take_no_more_memory() -> None:
    warm, after = numbers(
        """
from tfgrpo.llm.inprocess.heap import give_back, keep_few_kernels
keep_few_kernels()
import torch
torch.set_num_threads(1)
weight = torch.randn(128, 192, dtype=torch.bfloat16)
def multiply(shapes):
    for rows in shapes:
        torch.nn.functional.linear(torch.ones(rows, 192, dtype=torch.bfloat16), weight)
    give_back()
    print(resident())
multiply(range(1, 101))
multiply(range(101, 401))
"""
    )
    assert after - warm < 40


def test_the_environment_decides_first() -> None:
    code = """
from tfgrpo.llm.inprocess.heap import keep_few_kernels
keep_few_kernels()
print(os.environ["LRU_CACHE_CAPACITY"], os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"])
"""
    assert numbers(code, LRU_CACHE_CAPACITY="7") == [7, 64]
