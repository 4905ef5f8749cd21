"""The ledger of events in an SQLite file, in WAL mode."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amzrec.errors import AmzrecError, one_line
from amzrec.service.events import LATEST, Event, Unavailable, check_table
from amzrec.store.folders import scratch_folder
from amzrec.store.seals import (
    COLUMNS,
    FAILS,
    FORMAT,
    SEAL,
    TABLE,
    TALLY,
    WAIT,
    copy_or_doctor,
    is_whole,
    make_table,
    seal,
    seal_all,
    trouble,
)

NAMES = ", ".join((*COLUMNS, SEAL))
INSERT = f"INSERT INTO {TABLE} ({NAMES}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
SELECT = (
    f"""SELECT event, {NAMES} FROM {TABLE} WHERE customer_id = ? ORDER BY timestamp DESC, event DESC LIMIT {LATEST}"""
)
# pages (4 KB) of the indexes stay at hand, and are copied from the log to the file once for many commits: events of
# customers in no order take two thirds of the time that they take with what SQLite has by itself (LOG.md, 2026-11-29)
WRITER_SETTINGS = ("cache_size = -16384", "wal_autocheckpoint = 4000")
TALLIED = f"SELECT events, total FROM {TALLY} WHERE customer_id = ?"


class SQLiteLedger:
    """One SQLite file; see Ledger."""

    near = True

    def __init__(self, path: Path | str) -> None:
        """Open the file, or make it; AmzrecError where that cannot be, or it is a database of something else."""
        self.path = Path(path)
        self.readers = threading.local()
        self.opened: list[sqlite3.Connection] = []
        try:
            self._make()
        except FAILS as error:
            raise AmzrecError(
                f"--events {path} cannot be used: {self._said(error)}. Name an SQLite file that amzrec made, or a new "
                "one in a folder that you may write to, or none"
            ) from error
        self.writer = self._connect()
        for setting in WRITER_SETTINGS:
            self.writer.execute(f"PRAGMA {setting}")

    def append(self, together: Sequence[Sequence[Event]]) -> list[int]:
        """See Ledger.append."""
        try:
            self.writer.execute("BEGIN IMMEDIATE")
            counts = [self.writer.executemany(INSERT, map(sealed, each)).rowcount for each in together]
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
            reader: sqlite3.Connection = self.readers.connection
            reader.execute("BEGIN")  # so that both are of one moment
            try:
                rows = reader.execute(SELECT, (customer_id,)).fetchall()
                tallied = reader.execute(TALLIED, (customer_id,)).fetchone() or (0, 0)
            finally:
                reader.execute("ROLLBACK")
        except FAILS as error:
            raise Unavailable(f"events cannot be read: {self._said(error)}") from error
        if wrong := broken(customer_id, rows, tallied):
            raise Unavailable(
                f"events cannot be read: {self.path} is damaged: {wrong}. {copy_or_doctor(str(self.path))}"
            )
        return [Event(*row[1:-1]) for row in reversed(rows)]

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
                with contextlib.closing(begun(scratch / self.path.name)) as connection:
                    make_table(connection)
                os.link(scratch / self.path.name, self.path)
        with contextlib.closing(sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)) as connection:
            tables = [
                str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({TABLE})")]
            check_table(str(self.path), tables, columns or tables)
            self._check_format(connection)
            if columns and SEAL not in columns:
                if wrong := trouble(connection):
                    raise AmzrecError(f"--events {self.path} is damaged: {wrong}. {copy_or_doctor(str(self.path))}")
                seal_all(connection)
        with contextlib.closing(begun(self.path)) as connection:
            make_table(connection)

    def _check_format(self, connection: sqlite3.Connection) -> None:
        """Raise AmzrecError for a file of a later amzrec."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not 0 <= version <= FORMAT:
            raise AmzrecError(
                f"--events {self.path} has format {version}, this amzrec knows those up to {FORMAT}: "
                "pip install --upgrade amzrec"
            )

    def _said(self, error: Exception) -> str:
        """Return what SQLite says in one line, and what to do about a damage."""
        text = one_line(error)
        damaged = "malformed" in text or "decode" in text or "user-defined" in text
        return f"{text}. {copy_or_doctor(str(self.path))}" if damaged else text

    def _connect(self) -> sqlite3.Connection:
        """Open a connection whose commits are on the disk when they return."""
        connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        self.opened.append(connection)
        return connection


def begun(file: Path) -> sqlite3.Connection:
    """Open an SQLite file, in WAL mode from now on."""
    connection = sqlite3.connect(file, timeout=WAIT, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def sealed(event: Event) -> tuple[object, ...]:
    """Return the values of a row."""
    row = event.row()
    return *row, seal(row)


def broken(customer_id: str, rows: Sequence[Sequence[Any]], tallied: tuple[int, int]) -> str:
    """Say what is wrong with the latest rows of a customer (number, COLUMNS, SEAL); nothing where all is well."""
    for event, *row in rows:
        if row[0] != customer_id or not is_whole(row) or not isinstance(event, int):
            return f"event {event} is not what was stored"
    order = [(row[4], row[0]) for row in rows]
    whole = len(rows) == min(tallied[0], LATEST) and order == sorted(set(order), reverse=True)
    if not whole or (len(rows) == tallied[0] and sum(row[-1] for row in rows) != tallied[1]):
        return f"{len(rows)} events of a customer are found, and others are tallied"
    return ""
