"""The ledger of events in an SQLite file, in WAL mode."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.service.events import COLUMNS, LATEST, TABLE, Event, Unavailable, check_table
from amzrec.store.folders import scratch_folder

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    event INTEGER PRIMARY KEY,
    customer_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    stars REAL,
    timestamp INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT UNIQUE
);
CREATE INDEX IF NOT EXISTS {TABLE}_of_customer ON {TABLE} (customer_id, timestamp, event);
"""
INSERT = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
SELECT = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE customer_id = ? ORDER BY timestamp DESC, event DESC LIMIT ?"
WAIT = 30.0  # seconds for another process that is writing


class SQLiteLedger:
    """One SQLite file; see Ledger."""

    def __init__(self, path: Path | str) -> None:
        """Open the file, or make it; AmzrecError where that cannot be, or it is a database of something else."""
        self.path = Path(path)
        self.readers = threading.local()
        self.opened: list[sqlite3.Connection] = []
        try:
            self._make()
        except sqlite3.Error as error:
            raise AmzrecError(
                f"--events {path} cannot be used: {error}. Name an SQLite file that amzrec made, or a new one in a "
                "folder that you may write to, or none"
            ) from error
        self.writer = self._connect()

    def append(self, together: Sequence[Sequence[Event]]) -> list[int]:
        """See Ledger.append."""
        try:
            self.writer.execute("BEGIN IMMEDIATE")
            counts = [self.writer.executemany(INSERT, map(dataclasses.astuple, each)).rowcount for each in together]
            self.writer.execute("COMMIT")
        except Exception:
            with contextlib.suppress(sqlite3.Error):
                self.writer.execute("ROLLBACK")
            raise
        return [max(count, 0) for count in counts]

    def of(self, customer_id: str) -> list[Event]:
        """See Ledger.of."""
        try:
            if not hasattr(self.readers, "connection"):
                self.readers.connection = self._connect()
            rows = self.readers.connection.execute(SELECT, (customer_id, LATEST)).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"events cannot be read: {error}") from error
        return [Event(*row) for row in reversed(rows)]

    def close(self) -> None:
        """See Ledger.close."""
        for connection in self.opened:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _make(self) -> None:
        """Make the table in a new file; AmzrecError for a database of something else, which stays as it is.

        A new file appears whole, so one that is empty has lost what was in it, and is refused.
        """
        if self.path.is_file() and not self.path.stat().st_size:
            raise AmzrecError(
                f"--events {self.path} is empty, as damage leaves it: put back a copy of it, or remove it to begin "
                "without events"
            )
        if not self.path.exists():
            # where that fails it is made in its place, or SQLite says why not; another process may be faster
            with contextlib.suppress(OSError, AmzrecError), scratch_folder(self.path.parent) as scratch:
                make_table(scratch / self.path.name)
                os.link(scratch / self.path.name, self.path)
        with contextlib.closing(sqlite3.connect(self.path, timeout=WAIT)) as connection:
            tables = [
                str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({TABLE})")]
            check_table(str(self.path), tables, columns or tables)
        make_table(self.path)

    def _connect(self) -> sqlite3.Connection:
        """Open a connection whose commits are on the disk when they return."""
        connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        self.opened.append(connection)
        return connection


def make_table(file: Path) -> None:
    """Make the table of events in a file where it is not there."""
    with contextlib.closing(sqlite3.connect(file, timeout=WAIT)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
