"""Seals of stored events: a checksum of what each row holds, and a tally of each customer's rows, which damage breaks.

The checksum shows a row that is not what was stored, the tally a row that is no longer found: an index or a page of the
file may be damaged where no row is. `amzrec serve` keeps both, whoever reads a store checks them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from amzrec.errors import AmzrecError, one_line

TABLE = "events"
COLUMNS = ("customer_id", "product_id", "stars", "timestamp", "kind", "key")  # that are sealed
SEAL = "checksum"
TALLY = "events_tally"  # customer → how many rows, and the sum of their checksums; kept by triggers, in SQLite alone
FORMAT = 2  # of SQLite files (user_version): 1, which was not said, had no checksums
LISTED = 5  # broken rows that are named
FAILS = (sqlite3.Error, UnicodeDecodeError)  # of SQLite: the second where its message has a damaged text in it
WAIT = 30.0  # seconds for another process that is writing

SCHEMA = (  # of an SQLite file
    f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    event INTEGER PRIMARY KEY,
    customer_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    stars REAL,
    timestamp INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT UNIQUE,
    {SEAL} INTEGER NOT NULL
)""",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_of_customer ON {TABLE} (customer_id, timestamp, event)",
    f"""CREATE TABLE IF NOT EXISTS {TALLY} (
    customer_id TEXT PRIMARY KEY,
    events INTEGER NOT NULL,
    total INTEGER NOT NULL
) WITHOUT ROWID""",
    f"""CREATE TRIGGER IF NOT EXISTS {TALLY}_more AFTER INSERT ON {TABLE} BEGIN
    INSERT INTO {TALLY} VALUES (new.customer_id, 1, new.{SEAL}) ON CONFLICT (customer_id)
    DO UPDATE SET events = events + 1, total = total + excluded.total;
END""",
    f"""CREATE TRIGGER IF NOT EXISTS {TALLY}_less AFTER DELETE ON {TABLE} BEGIN
    UPDATE {TALLY} SET events = events - 1, total = total - old.{SEAL} WHERE customer_id = old.customer_id;
    DELETE FROM {TALLY} WHERE customer_id = old.customer_id AND events = 0;
END""",
)
MADE = {TABLE, f"{TABLE}_of_customer", TALLY, f"{TALLY}_more", f"{TALLY}_less"}
ALL = f"SELECT event, {', '.join(COLUMNS)}, {SEAL} FROM {TABLE} NOT INDEXED"


def seal(row: Sequence[Any]) -> int:
    """Return the checksum of the values of COLUMNS, the same for any Python, database and way of writing a number."""
    customer, product, stars, timestamp, kind, key = row
    stars = None if stars is None else float(stars) + 0.0  # 0, as SQLite stores it, for -0
    return zlib.crc32(ascii((customer, product, stars, int(timestamp), kind, key)).encode())


def is_whole(row: Sequence[Any]) -> bool:
    """Tell whether the values of COLUMNS and SEAL are what was stored."""
    try:
        return bool(seal(row[:-1]) == row[-1])
    except (ValueError, TypeError, OverflowError):
        return False


@dataclasses.dataclass
class Examined:
    """What a table of events was found to hold."""

    rows: int = 0
    total: int = 0  # of the checksums
    broken: list[int] = dataclasses.field(default_factory=list)  # numbers of rows that are not what was stored
    lost: int = 0  # rows that are tallied and not found; below 0 where there are more
    adds_up: bool = True  # whether the tallies say the same

    def complaint(self, place: str, remedy: str) -> str | None:
        """Say what is damaged and what to do, in one line; None where nothing is."""
        if self.broken:
            found = f"{len(self.broken):,} of its {self.rows:,} events are not what was stored ({named(self.broken)})"
        elif not self.adds_up:
            found = f"it has {self.rows:,} events, and other ones are tallied"
            found = f"it has {self.rows:,} of {self.rows + self.lost:,} events" if self.lost > 0 else found
        else:
            return None
        return f"{place} is damaged: {found}. {remedy}"


def named(events: Sequence[int]) -> str:
    """Name the first of some events."""
    more = f" and {len(events) - LISTED:,} more" if len(events) > LISTED else ""
    return f"event {', '.join(map(str, events[:LISTED]))}{more}"


def examined(rows: Iterable[Sequence[Any]]) -> Examined:
    """Look at all rows of a table, each with its number, the values of COLUMNS, and SEAL."""
    found = Examined()
    for event, *row in rows:
        found.rows += 1
        if is_whole(row) and isinstance(event, int):
            found.total += row[-1]
        else:
            found.broken.append(event or 0)
    return found


def examined_file(connection: sqlite3.Connection) -> Examined | None:
    """Look at all events of an SQLite file; None for a file without seals, of before there were any."""
    factory = connection.text_factory
    connection.text_factory = lambda value: value.decode("utf-8", "surrogateescape")
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if TABLE not in tables or columns_of(connection) != [*COLUMNS, SEAL]:
            return None
        found = examined(connection.execute(ALL))
        if TALLY in tables and not found.broken:
            rows, total = connection.execute(f"SELECT total(events), total(total) FROM {TALLY}").fetchone()
            found.lost, found.adds_up = int(rows) - found.rows, (rows, total) == (found.rows, found.total)
        return found
    finally:
        connection.text_factory = factory


def columns_of(connection: sqlite3.Connection) -> list[str]:
    """Return the columns of the table of events in an SQLite file, without the number of the row."""
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({TABLE})")][1:]


def make_table(connection: sqlite3.Connection) -> None:
    """Make what an SQLite file of events lacks, its tallies of the events that it has; nothing where all is there."""
    made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if made >= MADE:
        return
    with written(connection):
        made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        for statement in SCHEMA:
            connection.execute(statement)
        if TALLY not in made:
            connection.execute(
                f"INSERT INTO {TALLY} SELECT customer_id, count(*), sum({SEAL}) FROM {TABLE} NOT INDEXED GROUP BY 1"
            )
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def seal_all(connection: sqlite3.Connection) -> None:
    """Give all events of an SQLite file of before there were seals theirs, in one transaction."""
    connection.create_function("seal", len(COLUMNS), lambda *row: seal(row), deterministic=True)
    names, before = ", ".join(COLUMNS), f"{TABLE}_before"
    with written(connection):
        if columns_of(connection) != list(COLUMNS):  # another process was faster
            return
        connection.execute(f"DROP INDEX IF EXISTS {TABLE}_of_customer")
        connection.execute(f"ALTER TABLE {TABLE} RENAME TO {before}")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(
            f"INSERT INTO {TABLE} SELECT event, {names}, seal({names}) FROM {before} NOT INDEXED ORDER BY event"
        )
        connection.execute(f"DROP TABLE {before}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")


@contextlib.contextmanager
def written(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what is done in a `with` block in one transaction that writes, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def trouble(connection: sqlite3.Connection) -> str:
    """Say what SQLite itself finds wrong with a file, in one line; nothing where all is well."""
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    return "" if found == ["ok"] else "; ".join(" ".join(found).split("\n"))


def is_store(file: Path) -> bool:
    """Tell whether a file is an SQLite file of events, or one that is too damaged to tell."""
    with contextlib.suppress(*FAILS):
        with file.open("rb") as stream:
            if stream.read(6) != b"SQLite":
                return False
        with contextlib.closing(opened(file)) as connection:
            return columns_of(connection) in ([*COLUMNS], [*COLUMNS, SEAL])
    return True


def opened(file: Path) -> sqlite3.Connection:
    """Open an SQLite file for reading only."""
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, timeout=WAIT, isolation_level=None)


def copy_or_doctor(place: str) -> str:
    """Say what to do about a damaged SQLite file."""
    return f"Put back a copy of it; amzrec doctor {shlex.quote(place)} says how to go on without one"


def findings_of(file: Path) -> Iterator[tuple[str, bool, str, str]]:
    """Look at all of an SQLite file of events: what, whether it is well, what was found, what to type where it is not.

    Raises AmzrecError where it cannot be read at all.
    """
    name = shlex.quote(str(file))
    recover = f"put back a copy of it, or: sqlite3 {name} .recover | sqlite3 mended.db"
    try:
        with contextlib.closing(opened(file)) as connection:
            connection.execute("BEGIN")
            wrong, found = trouble(connection), examined_file(connection)
    except FAILS as error:
        raise AmzrecError(f"{file} cannot be read: {one_line(error)}. P{recover[1:]}") from error
    yield "file", not wrong, wrong or "SQLite finds it in order", recover
    if found is None:
        yield "events", True, "are of before there were checksums: amzrec serve gives them theirs", ""
        return
    delete = f"DELETE FROM {TABLE} WHERE event IN ({', '.join(map(str, found.broken))}); " if found.broken else ""
    mend = f'sqlite3 {name} "{delete}DROP TABLE {TALLY}; REINDEX", with no service running: the next one tallies again'
    said = (found.complaint(str(file), "") or "").partition("damaged: ")[2].rstrip(". ")
    yield "events", not said, said or f"{found.rows:,}: all are what was stored", f"put back a copy of it, or: {mend}"
