"""SQLite files, with the library that comes with Python: opened for reading only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa

from amzrec.errors import AmzrecError, one_line
from amzrec.reviews.sources.address import Address
from amzrec.reviews.sources.databases.protocol import TEXT, Columns, Wanted
from amzrec.store.seals import FAILS, Examined, examined_file

ROWS = 50_000  # of a batch
WAIT = 30.0  # seconds for somebody else who is writing

# SQLite gives each value a type of its own, so all become text: 17.0 as 17, as an id is written elsewhere
AS_TEXT = (
    "CASE typeof({0}) WHEN 'real' THEN CASE WHEN {0} = CAST({0} AS INTEGER) THEN CAST(CAST({0} AS INTEGER) AS TEXT) "
    "ELSE CAST({0} AS TEXT) END WHEN 'blob' THEN lower(hex({0})) ELSE CAST({0} AS TEXT) END"
)


class SQLite:
    """One SQLite file."""

    def __init__(self, connection: sqlite3.Connection, shown: str) -> None:
        self.connection, self.shown = connection, shown
        connection.text_factory = bytes  # text that is not UTF-8 is mended, not refused

    @contextlib.contextmanager
    def speaking(self, what: str) -> Iterator[None]:
        """Turn what SQLite refuses into an AmzrecError."""
        try:
            yield
        except FAILS as error:
            raise AmzrecError(f"{self.shown}: {what} failed ({one_line(error)}). {remedy(str(error))}") from error

    def tables(self) -> dict[str, list[str]]:
        """List tables and views; a view that no longer works is left out."""
        with self.speaking("listing its tables"):
            rows = self.connection.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY 1"
            ).fetchall()
        found = {}
        for (name,) in rows:
            with contextlib.suppress(AmzrecError):
                found[name.decode()] = list(self.columns(self.whole(name.decode())))
        return found

    def whole(self, table: str) -> str:
        """Return the query of all rows of a table."""
        return f"SELECT * FROM {quoted(table)}"

    def columns(self, query: str) -> Columns:
        """Return the columns of a query, all of them as text."""
        with self.speaking("the query"):
            cursor = self.connection.execute(f"SELECT * FROM (\n{query}\n) LIMIT 0")
            return {description[0]: TEXT for description in cursor.description}

    def rows(self, query: str, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        """Run a query and yield our columns as text."""
        values = [f"{AS_TEXT.format(quoted(theirs))} AS {ours}" for ours, (theirs, _) in wanted.items()]
        schema = pa.schema([(ours, pa.string()) for ours in wanted])
        with self.speaking("the query"):
            cursor = self.connection.execute(f"SELECT {', '.join(values)} FROM (\n{query}\n)")
            while rows := cursor.fetchmany(ROWS):
                yield pa.record_batch([texts(list(column)) for column in zip(*rows, strict=True)], schema=schema)

    def records(self, query: str, columns: Columns) -> Iterator[pa.RecordBatch]:
        """Run a query and yield all its columns as text, under their own names."""
        names = list(columns)
        for batch in self.rows(query, {f"c{n}": (name, TEXT) for n, name in enumerate(names)}):
            yield batch.rename_columns(names)

    def events(self) -> Examined | None:
        """Look at all events of the service; None for a database without sealed ones."""
        with self.speaking("reading its events"):
            return examined_file(self.connection)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def texts(values: list[bytes | None]) -> pa.Array:
    """Return a column of bytes as text; what is not UTF-8 becomes replacement characters."""
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if v is None else v.decode("utf-8", "replace") for v in values], pa.string())


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def remedy(message: str) -> str:
    """Say what to do about an error of SQLite."""
    if "not a database" in message:
        return "It is encrypted, or no SQLite file: name another"
    if "malformed" in message or "decode" in message:
        return "The file is damaged: copy it again, or mend it with sqlite3 FILE .recover"
    if "no such table" in message or "no such column" in message:
        return "Mend the --query, or name one of its tables with --table"
    if "locked" in message:
        return "Another program is writing it: try again"
    return "Mend the --query: one SELECT, which may begin with WITH"


def connect(address: Address) -> SQLite:
    """Open `sqlite:///file.db` (from here), `sqlite:////folder/file.db` or a path; AmzrecError where there is none."""
    path = Path(address.url)
    if address.url.startswith("sqlite:"):
        text = unquote(address.url.removeprefix("sqlite:")).partition("?")[0]
        text = text.removeprefix("//").removeprefix("/") if text.startswith("//") else text
        path = Path(text) if Path(text).exists() or not Path(f"/{text}").exists() else Path(f"/{text}")
    if not path.is_file():
        raise AmzrecError(f"there is no SQLite file {path}: write sqlite:///FILE, or the name of the file alone")
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=WAIT)
        connection.execute("BEGIN")  # all that is read is of one moment
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except FAILS as error:
        raise AmzrecError(f"{address.shown} could not be opened ({one_line(error)}). {remedy(str(error))}") from error
    return SQLite(connection, address.shown.partition("#")[0])
