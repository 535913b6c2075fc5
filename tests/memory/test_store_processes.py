"""A store between processes: shared, forked, and killed at any point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.memory.store_places import memory_folder

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("store_worker.py")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        yield Path(name) / "store"


def run(*arguments: object) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(WORKER), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_store_loads_nothing_heavy() -> None:
    code = "import sys, memory.store; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert "memory" in modules
    assert not modules & {"torch", "faiss", "transformers", "tfgrpo", "pydantic"}


def test_a_forked_child_opens_its_own(folder: Path) -> None:
    run("fork", folder)


def test_no_update_is_lost_between_processes(folder: Path) -> None:
    assert run("share", folder) == {"cases": 1 + 8 * 8, "seen": 8}


def test_a_killed_writer_loses_nothing_that_was_promised(folder: Path) -> None:
    told = run("crash", folder, 15, 0)
    assert told["killed"] >= 10


def test_a_killed_reindex_leaves_the_old_or_the_new(folder: Path) -> None:
    told = run("reindex", folder, 6, 0)
    assert told["killed"] == 6


# With the 40 moves of `test_reembed` these are at least 350 kills.


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_killed_writers_lose_nothing_that_was_promised(folder: Path, seed: int) -> None:
    told = run("crash", folder, 100, seed)
    assert told["killed"] >= 75
    assert min(told["add"], told["credit"], told["snapshot"]) >= 75


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_killed_reindexes_leave_the_old_or_the_new(folder: Path, seed: int) -> None:
    told = run("reindex", folder, 30, seed)
    assert told["killed"] == 30
    assert 0 < told["stale"] < 60, "killed before, between and after the two indexes"
