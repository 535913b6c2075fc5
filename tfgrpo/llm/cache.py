"""Never pay twice for the same rollout: a content-addressed store and the model that uses it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, fields, replace
from pathlib import Path
from typing import Any

from tfgrpo.errors import RunError
from tfgrpo.llm.fault_table import FaultTable
from tfgrpo.llm.faults import Fault, Faults
from tfgrpo.llm.limiter import shares
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure, Phase, Usage

_FORMAT = 1
_COUNTS = [field.name for field in fields(Usage)]
_TABLE = f"""CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, phase TEXT NOT NULL, completion TEXT NOT NULL,
    {", ".join(f"{name} NOT NULL" for name in _COUNTS)}
) WITHOUT ROWID"""
_PUT = f"INSERT OR IGNORE INTO calls VALUES (?, ?, ?{', ?' * len(_COUNTS)})"
_SUMS = f"SELECT phase, {', '.join(f'SUM({name})' for name in _COUNTS)} FROM calls GROUP BY phase"


def call_key(model_id: str, request: ChatRequest, index: int) -> str:
    """SHA-256 of all that decides rollout `index`. `phase` and `n` do not: they only group calls.

    The order inside a schema counts, because it steers the order in which a reply is written.
    """
    params = request.params
    parts = {
        "model": model_id,
        "messages": [[message.role, message.content] for message in request.messages],
        "temperature": float(params.temperature),
        "top_p": float(params.top_p),
        "max_tokens": params.max_tokens,
        "stop": params.stop,
        "seed": params.seed,
        "schema": request.json_schema,
        "detail": request.detail,
        "index": index,
    }
    text = json.dumps(parts, separators=(",", ":"), default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


class CallStore:
    """Completions by key in one SQLite file; what `put` has returned from survives a power cut.

    Several processes may share the file. Raises RunError if it is not a store that this version
    reads. Close it, or use it in `with`.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo, _told(f"{path} cannot be opened as a store of calls"):
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            undo.callback(self._connection.close)
            self._prepare(path)
            undo.pop_all()

    def _prepare(self, path: Path) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        # One flush is nothing beside the call that it keeps; NORMAL may lose the latest of them.
        run("PRAGMA synchronous = FULL")
        version = run("PRAGMA user_version").fetchone()[0]
        if version not in (0, _FORMAT):
            raise RunError(
                f"{path} is a store of format {version}, not {_FORMAT}; choose another path."
            )
        if version == 0:
            with self._connection:
                run("BEGIN IMMEDIATE")
                run(_TABLE)
                run(f"PRAGMA user_version = {_FORMAT}")
        self._faults = FaultTable(self._connection)

    def get(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The stored ones among `keys`."""
        found = {}
        for key in keys:
            row = self._connection.execute(
                "SELECT completion FROM calls WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                found[key] = _decoded(row[0])
        return found

    def put(self, phase: Phase, completions: Mapping[str, Completion]) -> None:
        """Store all or nothing, on the disk when this returns. A key keeps its first value."""
        rows = [
            (k, phase, json.dumps(asdict(c)), *astuple(c.usage)) for k, c in completions.items()
        ]
        with _told("A paid call cannot be stored"), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_PUT, rows)

    def note(self, fault: Fault) -> None:
        """Count what went wrong with the endpoint; a kill does not lose it."""
        with _told("A fault of the endpoint cannot be stored"):
            self._faults.note(fault)

    def faults(self) -> Faults:
        """All that went wrong on the way to what is stored here."""
        return self._faults.read()

    def usage_by_phase(self) -> dict[Phase, Usage]:
        """What all stored calls consumed when they were made, each counted once.

        With it comes what was billed for replies that could not be used.
        """
        sums = self._faults.lost_by_phase()
        for phase, *counts in self._connection.execute(_SUMS):
            sums[phase] = Usage(*counts) + sums.get(phase, Usage())
        return sums

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM calls").fetchone()[0])

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> CallStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CachedModel:
    """Asks `inner` only for rollouts that `store` lacks, and for each of them once at a time.

    A concurrent equal request waits for the one under way. Failures are never stored. A stored
    completion comes back as it was, with the usage that it once had. Where `inner` needs a call for
    each rollout, each is stored as soon as it has come.
    """

    def __init__(self, inner: ChatModel, store: CallStore) -> None:
        self._inner = inner
        self._store = store
        self._flights: dict[str, asyncio.Task[dict[str, Completion | Failure]]] = {}

    @property
    def model_id(self) -> str:
        return self._inner.model_id

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        indices = range(request.first_index, request.first_index + request.n)
        keys = {index: call_key(self.model_id, request, index) for index in indices}
        known: dict[str, Completion | Failure] = {**self._store.get(keys.values())}
        missing = [i for i in indices if keys[i] not in known and keys[i] not in self._flights]
        together = shares(self._inner, request)
        for run in contiguous(missing) if together else [[index] for index in missing]:
            self._start(replace(request, n=len(run), first_index=run[0]), [keys[i] for i in run])
        flights = [self._flights[key] for key in keys.values() if key not in known]
        for flight in dict.fromkeys(flights):
            # Shielded: others may wait for it too, and what was asked for has to be paid anyway.
            known |= await asyncio.shield(flight)
        return tuple(known[key] for key in keys.values())

    def _start(self, request: ChatRequest, keys: Sequence[str]) -> None:
        flight = asyncio.create_task(self._fetch(request, keys))
        self._flights |= dict.fromkeys(keys, flight)
        flight.add_done_callback(lambda done: self._land(done, keys))

    async def _fetch(
        self, request: ChatRequest, keys: Sequence[str]
    ) -> dict[str, Completion | Failure]:
        outcomes = dict(zip(keys, await self._inner.complete(request), strict=True))
        paid = {key: value for key, value in outcomes.items() if isinstance(value, Completion)}
        self._store.put(request.phase, paid)
        return outcomes

    def _land(self, flight: asyncio.Task[Any], keys: Sequence[str]) -> None:
        for key in keys:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # marks it as seen, if all who waited have been cancelled


def contiguous(indices: Sequence[int]) -> list[list[int]]:
    """Split increasing integers into maximal runs without a gap."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


@contextmanager
def _told(what: str) -> Iterator[None]:
    """SQLite's errors as a RunError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise RunError(f"{what} ({error}); check the disk, or choose another path.") from error


def _decoded(text: str) -> Completion:
    data = json.loads(text)
    for name in ("token_ids", "logprobs", "entropies", "entropy_bounds"):
        if data.get(name) is not None:
            data[name] = tuple(data[name])
    return Completion(**data | {"usage": Usage(**data["usage"])})
