"""Worker processes for commands that make many runs."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

from cli import console


@contextmanager
def workers(jobs: int) -> Iterator[Executor]:
    """Processes of one thread each, which on a pocket model outrun threads; or none at all."""
    if jobs == 1:
        with ThreadPoolExecutor(1) as here:
            yield here
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_begin) as pool:
        yield pool


def _begin() -> None:
    console.be_quiet()
    die_with_parent()


def die_with_parent() -> None:
    """End this worker when its parent dies: what is left over would hold the locks of its runs."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
