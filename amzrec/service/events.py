"""What customers do, kept durably in SQLite: stored before it is answered, and a source of reviews for `prepare`."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from amzrec.errors import AmzrecError

TABLE = "events"
COLUMNS = ("customer_id", "product_id", "stars", "timestamp", "kind", "key")
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
WAIT = 30.0  # seconds for another process that is writing
TOGETHER = 10_000  # most events that one commit makes durable
LATEST = 1000  # events of one customer that its answers read
BACKLOG = 1000  # requests that may wait to be stored


@dataclasses.dataclass(frozen=True)
class Event:
    """What a customer did with a product."""

    customer_id: str
    product_id: str
    stars: float | None
    timestamp: int  # unix seconds
    kind: str
    key: str | None = None  # an event of a key that is stored already is not stored again


class Unavailable(Exception):
    """Events cannot be stored, or read, for now."""


Waiting = tuple[Sequence[Event], "Future[int]"]


class EventStore:
    """One SQLite file in WAL mode, which any number of processes may share.

    One thread writes: all events that wait while a commit is made durable go into the next one, so that many at once
    cost little more than one.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; AmzrecError where that cannot be, or it is a database of something else."""
        self.path = path
        self.readers = threading.local()
        self.opened: list[sqlite3.Connection] = []
        self.waiting: queue.Queue[Waiting | None] = queue.Queue(BACKLOG)
        try:
            self._make()
        except sqlite3.Error as error:
            raise AmzrecError(
                f"--events {path} cannot be used: {error}. Name an SQLite file that amzrec made, or a new one in a "
                "folder that you may write to, or none"
            ) from error
        self.writer = self.connect()
        self.thread = threading.Thread(target=self._write, name="events", daemon=True)
        self.thread.start()

    def _make(self) -> None:
        """Make the table in a new file; AmzrecError for a database of something else, which stays as it is."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=WAIT)) as connection:
            tables = [
                str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({TABLE})")]
            if tables and columns[1:] != list(COLUMNS):
                raise AmzrecError(
                    f"--events {self.path} is a database of something else, with the tables {', '.join(tables)}: name "
                    "another file, or a new one"
                )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)

    def connect(self) -> sqlite3.Connection:
        """Open a connection whose commits are on the disk when they return."""
        connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        self.opened.append(connection)
        return connection

    def add(self, events: Sequence[Event]) -> Future[int]:
        """Store events; the future has the number of new ones as soon as all are durable. All are stored, or none.

        Raises Unavailable where too many wait already; the future does where they could not be stored.
        """
        stored: Future[int] = Future()
        try:
            self.waiting.put_nowait((events, stored))
        except queue.Full:
            raise Unavailable("too many events wait to be stored: try again") from None
        return stored

    def of(self, customer_id: str) -> list[Event]:
        """Return the last events of a customer in the order of their time, the latest last."""
        if not hasattr(self.readers, "connection"):
            self.readers.connection = self.connect()
        columns = ", ".join(COLUMNS)
        query = f"SELECT {columns} FROM {TABLE} WHERE customer_id = ? ORDER BY timestamp DESC, event DESC LIMIT ?"
        try:
            rows = self.readers.connection.execute(query, (customer_id, LATEST)).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"events cannot be read: {error}") from error
        return [Event(*row) for row in reversed(rows)]

    def close(self) -> None:
        """Store what waits, and close the file."""
        self.waiting.put(None)
        self.thread.join()
        for connection in self.opened:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _write(self) -> None:
        """Store what comes, until the end."""
        more = True
        while more:
            together = [self.waiting.get()]
            with contextlib.suppress(queue.Empty):
                while sum(len(one[0]) for one in together if one) < TOGETHER:
                    together.append(self.waiting.get_nowait())
            more = None not in together
            self._commit([one for one in together if one is not None])

    def _commit(self, together: Sequence[Waiting]) -> None:
        """Store the events of several requests at once, and tell each of them."""
        insert = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
        try:
            self.writer.execute("BEGIN IMMEDIATE")
            counts = []
            for events, _ in together:
                counts.append(self.writer.executemany(insert, map(dataclasses.astuple, events)).rowcount)
            self.writer.execute("COMMIT")
        except Exception as error:  # whatever it is, nobody may wait for ever, and the thread must go on
            with contextlib.suppress(sqlite3.Error):
                self.writer.execute("ROLLBACK")
            for _, stored in together:
                stored.set_exception(Unavailable(f"the events could not be stored: {error}"))
            return
        for (_, stored), count in zip(together, counts, strict=True):
            stored.set_result(max(count, 0))
