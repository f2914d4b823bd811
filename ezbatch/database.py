"""SQLite, as the ledger and the local engine both use it: opened carefully, with errors a person can act on."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ezbatch.errors import StateDirectoryError

__all__ = ["VERSION", "open_database", "transaction", "translated"]

#: Bumped when a schema changes in a way that an older version cannot read.
VERSION = 1
#: Seconds to wait for other processes.
_BUSY = 30.0


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """Open a database, making it and its directory where they are missing, readable by their owner only.

    Raises
    ------
    StateDirectoryError
        If it cannot be used: says why and what to do.
    """
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)  # it holds environment values
        connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        _set_wal(connection)
        # A killed process loses nothing that was committed; only a power cut may lose the last moments.
        connection.execute("PRAGMA synchronous=NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            message = (
                f"{path} was made by another version of ezbatch (format {version}, this one reads {VERSION}). "
                "Set EZBATCH_STATE_DIR to another directory, or use that version."
            )
            raise StateDirectoryError(message)
        return connection


def _set_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. For that alone SQLite waits for nobody, so two processes that begin at once meet here."""
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into an error that names the place and the remedy."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            remedy = "Free some space"
        elif "locked" in str(error):
            remedy = "Another process holds it: try again"
        else:
            remedy = "Make the directory writable, or set EZBATCH_STATE_DIR to one that is"
        message = f"{path} cannot be used: {error}. {remedy}."
        raise StateDirectoryError(message) from error
    except sqlite3.DatabaseError as error:
        message = f"{path} is damaged: {error}. Move it away; ezbatch then starts a new one."
        raise StateDirectoryError(message) from error
    except OSError as error:
        if isinstance(error, StateDirectoryError):
            raise
        remedy = "Make it writable, or set EZBATCH_STATE_DIR to a directory that is"
        message = f"{path.parent} cannot be used: {error.strerror}. {remedy}."
        raise StateDirectoryError(message) from error
    except MemoryError as error:  # SQLite's word for a full shared-memory file
        message = f"{path} cannot be used: out of memory or disk space. Free some space."
        raise StateDirectoryError(message) from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end, or undo everything."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # after a full disk SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
