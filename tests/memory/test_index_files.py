from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memory.search.embed import F32
from memory.search.index import I64, FaissIndex, NumpyIndex
from memory.search.index_files import MANIFEST, Manifest, StaleIndex, load, save
from tests.memory.indexes import Kind, each_kind, filled, rows


def source() -> tuple[I64, F32]:
    return np.arange(100, 120), rows(20)


def opened(
    kind: Kind, folder: Path, *, fingerprint: str = "f", seq: int = 7
) -> tuple[NumpyIndex | FaissIndex, str | None]:
    """The stored index, or a new one and why it had to be built."""
    try:
        return load(kind, folder, fingerprint=fingerprint, seq=seq), None
    except StaleIndex as reason:
        index = kind(8)
        index.add(*source())
        save(index, folder, fingerprint=fingerprint, seq=seq)
        return index, str(reason)


@each_kind
@pytest.mark.parametrize("n", [0, 20])
def test_a_saved_index_is_read_back(kind: Kind, n: int, tmp_path: Path) -> None:
    index = filled(kind, n)
    manifest = save(index, tmp_path, fingerprint="f", seq=7)
    assert (manifest.count, manifest.dim, manifest.seq) == (n, 8, 7)
    again = load(kind, tmp_path, fingerprint="f", seq=7)
    assert again.ids.tolist() == index.ids.tolist()
    for left, right in zip(
        index.search(rows(3, seed=5), 4), again.search(rows(3, seed=5), 4), strict=True
    ):
        assert left.ids.tolist() == right.ids.tolist()
        assert left.scores.tolist() == right.scores.tolist()
    again.add([5], rows(1, seed=8))
    assert again.remove([5]) == 1


@each_kind
def test_it_is_built_when_absent_and_then_kept(kind: Kind, tmp_path: Path) -> None:
    index, reason = opened(kind, tmp_path / "new")
    assert reason == "its files cannot be read"
    assert index.ids.tolist() == list(range(100, 120))
    assert opened(kind, tmp_path / "new")[1] is None


@each_kind
@pytest.mark.parametrize("part", ["vectors", "manifest"])
def test_any_flipped_bit_or_cut_is_noticed(kind: Kind, part: str, tmp_path: Path) -> None:
    opened(kind, tmp_path)
    (data,) = tmp_path.glob("gen-*.bin")
    file = data if part == "vectors" else tmp_path / MANIFEST
    good = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(good), size=40).tolist():
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(flipped))
        if file.read_bytes() != good:
            with pytest.raises(StaleIndex):
                load(kind, tmp_path, fingerprint="f", seq=7)
    for length in (0, 1, len(good) // 2, len(good) - 2):
        file.write_bytes(good[:length])
        index, reason = opened(kind, tmp_path)
        assert reason is not None
        assert index.ids.tolist() == list(range(100, 120))
        assert opened(kind, tmp_path)[1] is None
    file.unlink()
    assert opened(kind, tmp_path)[1] == "its files cannot be read"


@each_kind
@pytest.mark.parametrize("changes", [{"fingerprint": "other"}, {"seq": 8}, {"seq": 6}])
def test_another_space_or_time_is_stale(
    kind: Kind, changes: dict[str, object], tmp_path: Path
) -> None:
    opened(kind, tmp_path)
    _, reason = opened(kind, tmp_path, **changes)
    assert reason is not None
    assert next(iter(changes)) in reason
    assert len(list(tmp_path.iterdir())) == 2


def test_another_kind_or_format_is_stale(tmp_path: Path) -> None:
    opened(NumpyIndex, tmp_path)
    with pytest.raises(StaleIndex, match="kind is numpy"):
        load(FaissIndex, tmp_path, fingerprint="f", seq=7)
    newer = Manifest("numpy", "f", 7, 0, 8, "x", "y", format=2).to_text()
    with pytest.raises(StaleIndex, match="another version"):
        Manifest.from_text(newer)
    for junk in ("", "[]", "{}", "null", '{"check": 1}'):
        with pytest.raises(StaleIndex):
            Manifest.from_text(junk)


KILLED = """
import os, signal, sys
from pathlib import Path
from memory.search.index import NumpyIndex
from memory.search.index_files import save
import numpy as np

stop, folder = int(sys.argv[1]), Path(sys.argv[2])
calls = 0

def watched(name, real):
    def call(*arguments):
        global calls
        calls += 1
        if calls == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call

os.fsync = watched("fsync", os.fsync)
Path.replace = watched("replace", Path.replace)
index = NumpyIndex(2)
index.add([1, 2], np.eye(2, dtype=np.float32))
save(index, folder, fingerprint="f", seq=8)
"""


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_kill_while_saving_leaves_the_old_or_the_new(stop: int, tmp_path: Path) -> None:
    opened(NumpyIndex, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(stop), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert load(NumpyIndex, tmp_path, fingerprint="f", seq=7).ids.tolist() == list(range(100, 120))


def test_what_a_killed_writer_began_goes_with_the_next_save(tmp_path: Path) -> None:
    opened(NumpyIndex, tmp_path)
    old, fresh = tmp_path / ".writing-old", tmp_path / ".writing-now"
    for file in (old, fresh):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    opened(NumpyIndex, tmp_path, seq=8)
    assert (old.exists(), fresh.exists()) == (False, True)
