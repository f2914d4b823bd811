"""The local engine's database: what was asked of it, and what became of it.

Submitting processes add jobs and requests; the engine alone changes jobs. So no two writers ever disagree.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ezbatch.database import open_database

__all__ = ["connect", "path"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs(
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,            -- JSON: the environment of plain processes, the store's root, the machine's limits
    definitions TEXT NOT NULL,     -- JSON: what jobs have in common
    held INTEGER NOT NULL DEFAULT 0,   -- its engine was killed: nothing new starts until it is resumed
    seen INTEGER NOT NULL DEFAULT 0    -- an engine has taken it up
);
CREATE TABLE IF NOT EXISTS jobs(
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    parent TEXT,                   -- of an array's child: the array's id
    child INTEGER,                 -- its index
    spec TEXT NOT NULL,            -- JSON; a child has its parent's
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    attempts TEXT NOT NULL DEFAULT '[]',   -- JSON: [number, started, stopped, exit code, reason]
    counts TEXT,                   -- JSON: of an array, its children by state
    cancelled INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    rev INTEGER NOT NULL DEFAULT 0 -- grows with every change, so that a reader fetches only what is new
);
CREATE INDEX IF NOT EXISTS jobs_by_run ON jobs(run, rev);
CREATE INDEX IF NOT EXISTS jobs_live ON jobs(seq) WHERE state NOT IN ('SUCCEEDED', 'FAILED', 'BLOCKED');
CREATE INDEX IF NOT EXISTS jobs_by_parent ON jobs(parent, child) WHERE parent IS NOT NULL;
CREATE TABLE IF NOT EXISTS requests(
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,            -- cancel, resume
    run TEXT NOT NULL,
    jobs TEXT NOT NULL,            -- JSON: ids
    reason TEXT NOT NULL
);
"""


def path(directory: Path) -> Path:
    """Return where the database of an engine's directory is."""
    return directory / "engine.db"


def connect(directory: Path) -> sqlite3.Connection:
    """Open the database of an engine's directory, making both where they are missing.

    Raises
    ------
    StateDirectoryError
        If the directory cannot be used.
    """
    return open_database(path(directory), _SCHEMA)
