"""The ledger of events in a database of PostgreSQL, through ADBC, which `pip install 'amzrec[postgres]'` brings."""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Iterator, Sequence
from typing import Any

from amzrec.errors import AmzrecError
from amzrec.service.events import LATEST, TOGETHER, Event, Unavailable, check_table
from amzrec.store.seals import COLUMNS, SEAL, TABLE, is_whole, named, seal

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    event bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id text NOT NULL,
    product_id text NOT NULL,
    stars double precision,
    "timestamp" bigint NOT NULL,
    kind text NOT NULL,
    key text UNIQUE,
    {SEAL} bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS {TABLE}_of_customer ON {TABLE} (customer_id, "timestamp", event);
"""
NAMES = ", ".join(f'"{name}"' for name in (*COLUMNS, SEAL))
UNSEALED = f"""
SELECT event, {", ".join(f'"{name}"' for name in COLUMNS)} FROM {TABLE} WHERE {SEAL} IS NULL
ORDER BY event LIMIT {TOGETHER}
"""
SEALED = f"""
UPDATE {TABLE} SET {SEAL} = found.{SEAL} FROM json_to_recordset(CAST($1 AS json)) AS found (event bigint, {SEAL} bigint)
WHERE {TABLE}.event = found.event
"""
INSERT = f"""
INSERT INTO {TABLE} ({NAMES}) SELECT {NAMES} FROM json_to_recordset(CAST($1 AS json)) AS event (
    customer_id text, product_id text, stars double precision, "timestamp" bigint, kind text, key text,
    {SEAL} bigint
) ON CONFLICT (key) DO NOTHING RETURNING key
"""
SELECT = f"""
SELECT event, {NAMES} FROM {TABLE} WHERE customer_id = $1 ORDER BY "timestamp" DESC, event DESC LIMIT {LATEST}
"""
FOUND = "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position"
LOCK = "SELECT pg_advisory_xact_lock(7261)"  # two services that start at once would both make the table
TIMEOUT = 10  # seconds for the server to answer


class PostgresLedger:
    """One database of PostgreSQL; see Ledger. A connection that broke is opened anew when it is needed."""

    near = False

    def __init__(self, url: str) -> None:
        """Connect, and make the table; AmzrecError where that cannot be, or the table is one of something else."""
        try:
            from adbc_driver_manager import Error
            from adbc_driver_postgresql import dbapi
        except ImportError as error:
            raise AmzrecError(
                f"--events postgresql:// needs a package that is not installed here ({error}): "
                "pip install 'amzrec[postgres]'"
            ) from error
        self.error, self.open = Error, dbapi.connect
        self.url = url if "connect_timeout" in url else f"{url}{'&' if '?' in url else '?'}connect_timeout={TIMEOUT}"
        self.free: queue.LifoQueue[Any] = queue.LifoQueue()
        try:
            with self._cursor() as cursor:
                cursor.execute(LOCK).fetchall()
                columns = [name for (name,) in cursor.execute(FOUND, (TABLE,)).fetchall()]
                check_table("postgresql://…", [TABLE], columns)
                if not columns:
                    for statement in SCHEMA.strip().split(";")[:-1]:
                        cursor.execute(statement)
                elif SEAL not in columns:
                    seal_all(cursor)
        except Error as error:
            raise AmzrecError(
                f"--events postgresql://… cannot be used: {said(error)}. See that the server runs, and check its "
                "address, user and password, and that the user may make tables"
            ) from None  # the error of the driver may hold the password

    def append(self, together: Sequence[Sequence[Event]]) -> list[int]:
        """See Ledger.append."""
        names = (*COLUMNS, SEAL)
        events = [dict(zip(names, (*row, seal(row)), strict=True)) for each in together for row in map(Event.row, each)]
        try:
            with self._cursor() as cursor:
                new = {key for (key,) in cursor.execute(INSERT, (json.dumps(events),)).fetchall() if key is not None}
        except self.error as error:
            raise Unavailable(said(error)) from None
        counts = []
        for each in together:
            keys = {event.key for event in each if event.key is not None} & new
            new -= keys
            counts.append(len(keys) + sum(event.key is None for event in each))
        return counts

    def of(self, customer_id: str) -> list[Event]:
        """See Ledger.of."""
        try:
            with self._cursor() as cursor:
                rows = cursor.execute(SELECT, (customer_id,)).fetchall()
        except self.error as error:
            raise Unavailable(f"events cannot be read: {said(error)}") from None
        if found := [row[0] for row in rows if not is_whole(row[1:])]:
            raise Unavailable(
                f"events cannot be read: the table {TABLE} is damaged: {named(found)} is not what was stored. "
                f"Restore a backup of the database, or go on without: DELETE FROM {TABLE} WHERE event = {found[0]}"
            )
        return [Event(*row[1:-1]) for row in reversed(rows)]

    def close(self) -> None:
        """See Ledger.close."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.free.get_nowait().close()

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        """Give a cursor whose work is committed at the end; where it fails, no open connection is used again."""
        try:
            connection = self.free.get_nowait()
        except queue.Empty:
            connection = self.open(self.url)
        try:
            with connection.cursor() as cursor:
                yield Chained(cursor)
            connection.commit()
        except BaseException:
            with contextlib.suppress(Exception):
                connection.close()
                self.close()
            raise
        self.free.put(connection)


class Chained:
    """A cursor whose `execute` returns it."""

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor

    def execute(self, statement: str, values: tuple[str, ...] | None = None) -> Any:
        """Run one statement, and return the cursor, which has its rows."""
        self.cursor.execute(statement, values)
        return self.cursor


def seal_all(cursor: Chained) -> None:
    """Give the events of a table of before there were seals theirs."""
    cursor.execute(f"ALTER TABLE {TABLE} ADD COLUMN {SEAL} bigint")
    while rows := cursor.execute(UNSEALED).fetchall():
        cursor.execute(SEALED, (json.dumps([{"event": event, SEAL: seal(row)} for event, *row in rows]),))
    cursor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {SEAL} SET NOT NULL")


def said(error: Exception) -> str:
    """Return the sentence of the server, without what the driver adds."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
