"""The run directory: the only reader and writer of run files.

    config.json        {"schema": 1, "kind": ..., "config": resolved}; its presence makes a run
    environment.json   versions, commit, seed, time of creation; never keys or variables
    resumed.jsonl      one environment per resume
    NAME.jsonl         append-only rows
    anything else      whole files, replaced atomically

A resumed run goes on after its last finished step. What was cut short is made again, fed by cached
replies, so that no finished call is paid twice.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tfgrpo.canonical import canonical_json, differences, fingerprint
from tfgrpo.environment import environment
from tfgrpo.errors import RunError
from tfgrpo.storage import append_line, is_json, take_lock, whole_length, write_atomic
from tfgrpo.types import StepRecord

SCHEMA = 1
CLOCK_KEYS = frozenset({"seconds"})
FREE_KEYS = frozenset({"budget"})
"""Settings that say when a run stops, not what it does: they may be others when it is resumed."""


class RunDir:
    """One run folder. Made by `create`, `resume` (both write, alone) or `open` (reads only).

    A writer holds a lock until `close`, or until its process dies. `notices` are sentences for the
    user about what was found and mended.
    """

    def __init__(self, path: Path, lock: int | None = None) -> None:
        self.path = path
        self.notices: list[str] = []
        self._root = path.resolve()
        self._starts: dict[str, list[int]] = {}
        self._unlock = None if lock is None else weakref.finalize(self, os.close, lock)

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], kind: str) -> RunDir:
        """A new run in `path`, which must be missing or empty. Raises RunError otherwise."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise RunError(f"{path} is a file; give the path of a folder.") from None
        surroundings = environment(config.get("seed"))  # asks git, whose process must hold no lock
        run = cls(path, _lock(path))
        # A creation that was killed leaves hidden files and the environment: no run as yet.
        names = [child.name for child in path.iterdir() if not child.name.startswith(".")]
        if names not in ([], ["environment.json"]):
            run.close()
            raise RunError(f"{path} is not empty; resume the run in it or choose another folder.")
        run.write_json("environment.json", surroundings)
        run.write_json("config.json", {"schema": SCHEMA, "kind": kind, "config": config})
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """An existing run, to read while others may write. Raises RunError if it is none."""
        run = cls(path)
        run._manifest()
        return run

    @classmethod
    def resume(cls, path: Path, config: Mapping[str, Any]) -> RunDir:
        """An existing run, to go on writing; rows that a kill tore are cut off, with a notice.

        Raises RunError, naming the keys, unless `config` equals the run's own.
        """
        cls.open(path).check_config(config)
        surroundings = environment(config.get("seed"))
        run = cls(path, _lock(path))
        for leftover in path.rglob(".*.tmp"):
            leftover.unlink()
        for file in sorted(path.rglob("*.jsonl")):
            run._mend(file)
        run.append("resumed.jsonl", surroundings)
        return run

    def close(self) -> None:
        """Give up the lock; the run can still be read."""
        if self._unlock is not None:
            self._unlock()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kind(self) -> str:
        return str(self._manifest()["kind"])

    @property
    def identity(self) -> str:
        """Names this run among all others, also among those of the same folder name."""
        return f"{self.path.name}-{fingerprint([_created(self), self.config])[:8]}"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as plain JSON values."""
        return dict(self._manifest()["config"])

    def check_config(self, config: Mapping[str, Any]) -> None:
        """Raise RunError, naming the keys that differ, unless `config` equals the run's own.

        Budgets may differ: that is how a run that met one goes on.
        """

        def binding(settings: Mapping[str, Any]) -> dict[str, Any]:
            # A setting that did not exist yet when the run was made is one that is not set.
            kept = {key: value for key, value in settings.items() if key not in FREE_KEYS}
            return {key: value for key, value in kept.items() if value is not None}

        problems = differences(binding(self.config), binding(json.loads(canonical_json(config))))
        if problems:
            raise RunError(
                f"{self.path} was made with another configuration ({'; '.join(problems)}); "
                "use the same one to resume, or start a new run."
            )

    def file(self, name: str) -> Path:
        """The path of a file of this run. Raises RunError if `name` leads out of the folder."""
        path = self.path / name
        if not path.resolve().is_relative_to(self._root) or path.resolve() == self._root:
            raise RunError(f"{name!r} lies outside the run {self.path}; give a name inside it.")
        return path

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a whole file atomically."""
        path = self.file(name)
        self._must_write()
        write_atomic(path, data)
        return path

    def write_text(self, name: str, text: str) -> Path:
        return self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: object) -> Path:
        """Write a whole file of canonical JSON. Raises RunError on NaN and infinity."""
        return self.write_bytes(name, self._line(name, value) + b"\n")

    def read_json(self, name: str) -> Any:
        """Raises RunError if the file is missing or is no JSON."""
        path = self.file(name)
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            raise RunError(f"{path} is missing; run the command that writes it first.") from None
        except ValueError as error:
            raise RunError(f"{path} is no JSON ({error}); restore it or start a new run.") from None

    def append(self, name: str, row: object) -> None:
        """Add one row; when this returns, the row is on the disk."""
        starts = self._row_starts(name)
        self._must_write()
        starts.append(append_line(self.file(name), self._line(name, row)))

    def ensure_row(self, name: str, index: int, row: object) -> bool:
        """Append row `index`, or check it against the row that stands; True if it was appended.

        Readings of the clock (`seconds`, at any depth) may differ: the row that stands is kept.
        Raises RunError if anything else differs, or if rows before `index` are missing.
        """
        starts = self._row_starts(name)
        if index > len(starts):
            raise RunError(
                f"{name} has {len(starts)} rows, so row {index} cannot be written yet; "
                "write the rows in order."
            )
        if index == len(starts):
            self.append(name, row)
            return True
        with self.file(name).open("rb") as file:
            file.seek(starts[index])
            standing = json.loads(file.readline())
        problems = differences(_timeless(standing), _timeless(json.loads(self._line(name, row))))
        if problems:
            raise RunError(
                f"The run diverged from its own record at row {index} of {self.file(name)} "
                f"({'; '.join(problems)}); start a new run, as code or models have changed."
            )
        return False

    def read_rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a file, in order; none if it is missing. A torn last row is passed over.

        Raises RunError where a row before the last is damaged.
        """
        path = self.file(name)
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n") and is_json(line):
                    yield json.loads(line)
                elif file.read(1):
                    raise RunError(f"{path}, line {number}, is damaged; start a new run.")

    def _manifest(self) -> dict[str, Any]:
        if not self.path.is_dir() or not (self.path / "config.json").is_file():
            raise RunError(f"{self.path} is no run folder; give the folder of a run.")
        manifest = self.read_json("config.json")
        if not isinstance(manifest, dict) or manifest.keys() != {"schema", "kind", "config"}:
            raise RunError(f"{self.path} is no run folder; its config.json is of another program.")
        if manifest["schema"] != SCHEMA:
            raise RunError(
                f"{self.path} was written in format {manifest['schema']}, and this version reads "
                f"{SCHEMA}; use the version of tfgrpo that wrote it."
            )
        return manifest

    def _must_write(self) -> None:
        if self._unlock is None or not self._unlock.alive:
            raise RunError(f"{self.path} is open for reading only; resume it to write.")

    def _line(self, name: str, value: object) -> bytes:
        try:
            return canonical_json(value).encode()
        except ValueError as error:
            raise RunError(
                f"A value for {name} cannot be written ({error}); use null where it is undefined."
            ) from error

    def _row_starts(self, name: str) -> list[int]:
        """Where each row starts; also refuses names that are no row files."""
        path = self.file(name)
        if path.suffix != ".jsonl":
            raise RunError(f"{name!r} cannot hold rows; give a name that ends in .jsonl.")
        if name not in self._starts:
            self._starts[name] = starts = []
            position = 0
            if path.exists():
                with path.open("rb") as file:
                    for line in file:
                        starts.append(position)
                        position += len(line)
        return self._starts[name]

    def _mend(self, file: Path) -> None:
        whole, length = whole_length(file), file.stat().st_size
        if whole == length:
            return
        os.truncate(file, whole)
        name = file.relative_to(self.path)
        self.notices.append(f"{name}: cut off a last row of {length - whole} bytes torn by a kill.")


def step_row(record: StepRecord) -> dict[str, Any]:
    """A learning step of either arm as a row of steps.jsonl; what it used stands in the ledger."""
    return {
        "step": record.step,
        "epoch": record.epoch,
        "policy_id": record.policy_id,
        "reward_mean": record.reward_mean,
        "groups": dict(record.groups),
        "failures": record.failures,
        "metrics": dict(record.metrics),
    }


def list_runs(root: Path) -> tuple[RunDir, ...]:
    """All runs in `root` and the folders below, oldest first. Runs do not nest."""
    found: list[RunDir] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            found.append(RunDir.open(folder))
        except RunError:
            children = folder.glob("[!.]*")
            folders += [child for child in children if child.is_dir() and not child.is_symlink()]
    return tuple(sorted(found, key=lambda run: (_created(run), str(run.path))))


def run_name(kind: str, config: Mapping[str, Any], now: datetime) -> str:
    """`KIND-YYYYMMDD-HHMMSS-HASH`: sorts by time within a kind; HASH is of the configuration."""
    return f"{kind}-{now.strftime('%Y%m%d-%H%M%S')}-{fingerprint(config)[:6]}"


def _lock(path: Path) -> int:
    handle = take_lock(path / ".lock")
    if handle is None:
        owner = (path / ".lock").read_text() or "unknown"
        raise RunError(
            f"{path} is being written by process {owner}; wait for it or choose another folder."
        )
    return handle


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in CLOCK_KEYS}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _created(run: RunDir) -> str:
    try:
        return str(run.read_json("environment.json")["created"])
    except (RunError, KeyError, TypeError):
        return ""
