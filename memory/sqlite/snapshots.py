"""Named states of the store, and what differs between two of them."""

from __future__ import annotations

import sqlite3

from memory.credit import Utility
from memory.errors import SnapshotError
from memory.sqlite.codec import changed_fields, check_text
from memory.sqlite.history import StoreState, digest_of, last_seq, replay
from memory.sqlite.utility import read_utilities
from memory.types import Case, Change, SeqRef, Snapshot, StoreDiff, UtilityMove


def current_digest(connection: sqlite3.Connection) -> str:
    shas = dict(connection.execute("SELECT id, sha FROM cases"))
    return digest_of(shas, read_utilities(connection))


def take_snapshot(connection: sqlite3.Connection, name: str, ts: float) -> Snapshot:
    """Name the present state. The same name for the same state is the same snapshot."""
    check_text("The name of a snapshot", name)
    if not name.strip() or name.isdigit():
        raise SnapshotError(f"{name!r} cannot name a snapshot; choose a name with a letter.")
    seq, digest = last_seq(connection), current_digest(connection)
    found = find_snapshot(connection, name)
    if found is not None and (found.seq, found.digest) != (seq, digest):
        raise SnapshotError(
            f"The snapshot {name} already names event {found.seq}; choose another name."
        )
    if found is not None:
        return found
    made = Snapshot(name, seq, digest, ts)
    connection.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?)", (name, seq, digest, ts))
    return made


def find_snapshot(connection: sqlite3.Connection, name: str) -> Snapshot | None:
    row = connection.execute(
        "SELECT name, seq, digest, created FROM snapshots WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else Snapshot(*row)


def all_snapshots(connection: sqlite3.Connection) -> list[Snapshot]:
    query = "SELECT name, seq, digest, created FROM snapshots ORDER BY seq, name"
    return [Snapshot(*row) for row in connection.execute(query)]


def seq_of(connection: sqlite3.Connection, ref: SeqRef) -> int:
    """The sequence number that `ref` means. Raises SnapshotError if there is none."""
    if isinstance(ref, str):
        found = find_snapshot(connection, ref)
        if found is None:
            names = ", ".join(s.name for s in all_snapshots(connection)) or "none yet"
            raise SnapshotError(f"There is no snapshot {ref}; use one of these: {names}.")
        return found.seq
    newest = last_seq(connection)
    if not 0 <= ref <= newest:
        raise SnapshotError(f"There is no event {ref}; use a number from 0 to {newest}.")
    return ref


def read_state(connection: sqlite3.Connection, ref: SeqRef) -> StoreState:
    """The state that `ref` names. A snapshot must still have the digest that it was given."""
    state = replay(connection, seq_of(connection, ref))
    if isinstance(ref, str):
        named = find_snapshot(connection, ref)
        if named is not None and named.digest != state.digest:
            raise SnapshotError(
                f"The snapshot {ref} no longer has the digest that it was taken with; verify the "
                "store, and restore it from a backup."
            )
    return state


def difference(a: StoreState, b: StoreState) -> StoreDiff:
    """What differs from state `a` to state `b`."""
    old, new = _living(a), _living(b)
    changes = ((n, changed_fields(old[n], new[n])) for n in sorted(old.keys() & new.keys()))
    moves = []
    for number in sorted(a.utilities.keys() | b.utilities.keys()):
        before = a.utilities.get(number, Utility())
        after = b.utilities.get(number, Utility())
        if before != after:
            moves.append(UtilityMove(number, before, after))
    return StoreDiff(
        a.seq,
        b.seq,
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(Change(n, "change", names) for n, names in changes if names),
        utility=tuple(moves),
    )


def _living(state: StoreState) -> dict[int, Case]:
    return {number: case for number, case in state.cases.items() if case.state != "deleted"}
