"""The tables, and the steps that bring an older file up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from memory.errors import CorruptStore

APPLICATION_ID = 0x7466_6D65
"""Marks the file as ours, so that no other program's database is written to."""

_FIRST = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # Every id that was ever given. A purge removes the case and leaves its id taken.
    "CREATE TABLE ids (id INTEGER PRIMARY KEY AUTOINCREMENT) STRICT",
    """CREATE TABLE cases (
        id INTEGER PRIMARY KEY REFERENCES ids (id), uid TEXT NOT NULL UNIQUE,
        ns TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('case','insight','subtask','tool')),
        question TEXT NOT NULL, plan TEXT NOT NULL, answer TEXT, reward REAL,
        outcome TEXT NOT NULL CHECK (outcome IN ('success','failure','unknown')),
        reason TEXT NOT NULL, verifier TEXT, item_id TEXT, dataset TEXT, split TEXT, run_id TEXT,
        step INTEGER, rollout_id TEXT, group_id TEXT, model TEXT, prompt_sha TEXT, tokens INTEGER,
        tags TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('active','archived','deleted')),
        pinned INTEGER NOT NULL, seen_count INTEGER NOT NULL,
        also_items TEXT NOT NULL, version INTEGER NOT NULL,
        seq INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
        content_key TEXT NOT NULL, sha TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX cases_content ON cases (content_key)",
    "CREATE UNIQUE INDEX cases_living ON cases (content_key) WHERE state <> 'deleted'",
    "CREATE INDEX cases_ns ON cases (ns, kind, state)",
    "CREATE INDEX cases_item ON cases (item_id)",
    """CREATE TABLE lineage (
        child INTEGER NOT NULL REFERENCES cases (id) ON DELETE CASCADE,
        parent INTEGER NOT NULL REFERENCES ids (id), relation TEXT NOT NULL,
        PRIMARY KEY (child, parent, relation)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX lineage_parent ON lineage (parent)",
    """CREATE TABLE history (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ts REAL NOT NULL, actor TEXT NOT NULL,
        op TEXT NOT NULL, case_id INTEGER REFERENCES ids (id), before_json TEXT, after_json TEXT,
        after_sha TEXT, reason TEXT NOT NULL, run_id TEXT
    ) STRICT""",
    "CREATE INDEX history_case ON history (case_id, seq)",
    """CREATE TRIGGER history_stays BEFORE DELETE ON history
        BEGIN SELECT RAISE(ABORT, 'the history only grows'); END""",
    """CREATE TRIGGER history_redacts BEFORE UPDATE ON history
        WHEN new.before_json IS NOT NULL OR new.after_json IS NOT NULL OR new.reason <> ''
            OR new.seq <> old.seq OR new.ts <> old.ts OR new.actor <> old.actor
            OR new.op <> old.op OR new.case_id IS NOT old.case_id
            OR new.after_sha IS NOT old.after_sha OR new.run_id IS NOT old.run_id
        BEGIN SELECT RAISE(ABORT, 'the history is only ever redacted'); END""",
    """CREATE TABLE snapshots (
        name TEXT PRIMARY KEY, seq INTEGER NOT NULL, digest TEXT NOT NULL, created REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE fingerprints (
        fp TEXT PRIMARY KEY, json TEXT NOT NULL, dim INTEGER NOT NULL, created REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE vectors (
        case_id INTEGER NOT NULL REFERENCES cases (id) ON DELETE CASCADE,
        fp TEXT NOT NULL REFERENCES fingerprints (fp), view TEXT NOT NULL,
        text_sha TEXT NOT NULL, vec BLOB NOT NULL, PRIMARY KEY (case_id, fp, view)
    ) STRICT""",
    """CREATE TABLE retrievals (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, group_id TEXT, rollout_id TEXT,
        item_id TEXT, query_sha TEXT NOT NULL, policy TEXT NOT NULL, fingerprint TEXT,
        snapshot_seq INTEGER NOT NULL, seed TEXT, ms REAL, ts REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE retrieval_hits (
        retrieval_id INTEGER NOT NULL REFERENCES retrievals (id),
        case_id INTEGER NOT NULL REFERENCES ids (id), sim REAL NOT NULL, rank INTEGER,
        score REAL, util REAL, reason TEXT,
        PRIMARY KEY (retrieval_id, case_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX hits_case ON retrieval_hits (case_id)",
    """CREATE TABLE outcomes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        retrieval_id INTEGER NOT NULL UNIQUE REFERENCES retrievals (id), reward REAL,
        advantage REAL, baseline REAL, verifier TEXT, seq INTEGER NOT NULL, ts REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE utility (
        case_id INTEGER PRIMARY KEY REFERENCES cases (id) ON DELETE CASCADE, n INTEGER NOT NULL,
        mean REAL NOT NULL, m2 REAL NOT NULL
    ) STRICT""",
)

_FORGET = """INSERT INTO keywords (keywords, rowid, question, plan, answer, reason, tags)
    VALUES ('delete', old.id, old.question, old.plan, old.answer, old.reason, old.tags);"""
_LEARN = """INSERT INTO keywords (rowid, question, plan, answer, reason, tags)
    VALUES (new.id, new.question, new.plan, new.answer, new.reason, new.tags);"""

_SECOND = (
    # Words and their places only: the texts stay in `cases` and are not kept twice.
    """CREATE VIRTUAL TABLE keywords USING fts5 (question, plan, answer, reason, tags,
        content = 'cases', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2')""",
    "CREATE VIRTUAL TABLE keyword_places USING fts5vocab ('keywords', 'instance')",
    f"CREATE TRIGGER keywords_add AFTER INSERT ON cases BEGIN {_LEARN} END",
    f"CREATE TRIGGER keywords_remove AFTER DELETE ON cases BEGIN {_FORGET} END",
    f"""CREATE TRIGGER keywords_change AFTER UPDATE OF question, plan, answer, reason, tags ON cases
        WHEN new.question <> old.question OR new.plan <> old.plan OR new.answer IS NOT old.answer
            OR new.reason <> old.reason OR new.tags <> old.tags
        BEGIN {_FORGET} {_LEARN} END""",
    "INSERT INTO keywords (keywords) VALUES ('rebuild')",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND)
"""Step i brings a file of format i to format i + 1. Steps are only ever appended."""


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring the file up to date, inside the caller's transaction."""
    for number in range(format_of(connection, len(migrations)), len(migrations)):
        for statement in migrations[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def format_of(connection: sqlite3.Connection, newest: int = len(MIGRATIONS)) -> int:
    """The format of the file, 0 for an empty one. Raises CorruptStore if it is none of ours."""
    # The mark is read last: another process may make the store between two of these reads, and a
    # file without our mark after that had no tables of ours before.
    tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and (version or tables):
        raise CorruptStore("This is a database of another program; choose another folder.")
    if version > newest:
        raise CorruptStore(
            f"This store has format {version} and this program knows up to {newest}; upgrade it."
        )
    return version
