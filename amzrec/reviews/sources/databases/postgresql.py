"""PostgreSQL through ADBC: rows come as Arrow batches, as fast as the server sends them."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.address import Address
from amzrec.reviews.sources.databases.protocol import (
    BOOLEAN,
    DECIMAL,
    FLOAT,
    INTEGER,
    MOMENT,
    NESTED,
    TEXT,
    Columns,
    Wanted,
)
from amzrec.store.seals import COLUMNS, SEAL, TABLE, Examined, examined

KINDS = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), INTEGER),
    **dict.fromkeys(("float4", "float8"), FLOAT),
    **dict.fromkeys(("timestamp", "timestamptz", "date"), MOMENT),
    **dict.fromkeys(("json", "jsonb", "record", "hstore", "xml"), NESTED),
    "numeric": DECIMAL,
    "bool": BOOLEAN,
}
TABLES = """
SELECT n.nspname, c.relname, n.nspname = ANY (current_schemas(false)),
       array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
GROUP BY 1, 2, 3 ORDER BY 3 DESC, 1, 2
"""
TIMEOUT = 15  # seconds until a server that does not answer is given up


class PostgreSQL:
    """One connection, in one read-only transaction: all that is read is of one moment."""

    def __init__(self, connection: Any, address: Address) -> None:
        self.connection, self.address, self.shown = connection, address, address.shown.partition("#")[0]
        self.names: dict[str, tuple[str, str]] = {}  # table → schema, name
        self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        self.execute("SET client_encoding TO 'UTF8'")

    def execute(self, statement: str) -> Any:
        """Run a statement; returns its cursor, which the caller closes."""
        cursor = self.connection.cursor()
        with self.speaking():
            cursor.execute(statement)
        return cursor

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Turn what PostgreSQL refuses into an AmzrecError."""
        from adbc_driver_manager import Error

        try:
            yield
        except Error as error:
            message = self.address.hidden(said(error))
            with contextlib.suppress(Error, AmzrecError):
                self.connection.rollback()
            raise AmzrecError(f"{self.shown}: the query failed ({message}). {self.remedy(message)}") from None

    def remedy(self, message: str) -> str:
        """Say what to do about an error, with the nearest tables where one does not exist."""
        if found := re.search(r'relation "(.*?)" does not exist', message):
            with contextlib.suppress(AmzrecError):
                tables = list(self.tables())
                near = difflib.get_close_matches(found[1], tables, n=3, cutoff=0.5) or tables[:12]
                return f"Its tables: {', '.join(near) or 'none that you may read'}"
        if "is ambiguous" in message:
            return "Two columns of the query have one name: give one of them another, with AS"
        if "permission denied" in message:
            return "Let this user read it (GRANT SELECT), or log in as another"
        return "Mend the --query: one SELECT, which may begin with WITH"

    def tables(self) -> dict[str, list[str]]:
        """List tables and views, those of the search path without their schema, the others as schema.table."""
        with contextlib.closing(self.execute(TABLES)) as cursor, self.speaking():
            rows = cursor.fetchall()
        found: dict[str, list[str]] = {}
        for schema, name, near, columns in rows:
            called = name if near and name not in found else f"{schema}.{name}"
            self.names[called] = schema, name
            found[called] = list(columns)
        return found

    def whole(self, table: str) -> str:
        """Return the query of all rows of a table."""
        schema, name = self.names[table]
        return f"SELECT * FROM {quoted(schema)}.{quoted(name)}"

    def columns(self, query: str) -> Columns:
        """Return the columns of a query; the server prepares it and does not run it."""
        with contextlib.closing(self.connection.cursor()) as cursor, self.speaking():
            schema = cursor.adbc_execute_schema(f"SELECT * FROM (\n{query}\n) AS q")
        return {field.name: kind_of(field) for field in schema}

    def rows(self, query: str, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        """Run a query and yield our columns."""
        values = {ours: value(quoted(theirs), kind, ours) for ours, (theirs, kind) in wanted.items()}
        return self.selected(query, values)

    def records(self, query: str, columns: Columns) -> Iterator[pa.RecordBatch]:
        """Run a query and yield all its columns, lists as lists, the others as text."""
        values = {
            name: quoted(name) if kind == NESTED else f"CAST({quoted(name)} AS text)" for name, kind in columns.items()
        }
        return self.selected(query, values)

    def selected(self, query: str, values: dict[str, str]) -> Iterator[pa.RecordBatch]:
        """Run a query and yield these expressions over its columns."""
        chosen = ", ".join(f"{expression} AS {quoted(name)}" for name, expression in values.items())
        with contextlib.closing(self.execute(f"SELECT {chosen} FROM (\n{query}\n) AS q")) as cursor, self.speaking():
            reader = cursor.fetch_record_batch()
            for batch in reader:
                yield pa.RecordBatch.from_arrays([plain(column) for column in batch.columns], batch.schema.names)

    def events(self) -> Examined | None:
        """Look at all events of the service; None for a database without sealed ones."""
        if self.tables().get(TABLE) != ["event", *COLUMNS, SEAL]:
            return None
        names = ", ".join(quoted(name) for name in ("event", *COLUMNS, SEAL))
        with contextlib.closing(self.execute(f"SELECT {names} FROM {quoted(TABLE)}")) as cursor, self.speaking():
            batches = cursor.fetch_record_batch()
            return examined(
                row for batch in batches for row in zip(*map(pa.Array.to_pylist, batch.columns), strict=True)
            )

    def close(self) -> None:
        """End the transaction and the connection."""
        with contextlib.suppress(Exception):
            self.connection.close()


def kind_of(field: pa.Field) -> str:
    """Return the kind of a column that ADBC describes."""
    name = ((field.metadata or {}).get(b"POSTGRESQL:type") or b"").decode()
    if name.startswith("_") or pa.types.is_nested(field.type):
        return NESTED
    return KINDS.get(name, TEXT)


def value(column: str, kind: str, ours: str) -> str:
    """Return the SQL of a column as ours: numbers and times stay numbers, ids and titles become text."""
    if ours in ("stars", "timestamp"):
        if kind == BOOLEAN:
            return f"CAST({column} AS int)"
        if kind == DECIMAL and ours == "stars":
            return f"CAST({column} AS float8)"
        if kind in (INTEGER, FLOAT):
            return column
        if kind == MOMENT and ours == "timestamp":
            return f"CASE WHEN isfinite({column}) THEN CAST(floor(extract(epoch FROM {column})) AS bigint) END"
    if kind == DECIMAL:  # numeric(10, 2) writes 17.00
        return f"regexp_replace(CAST({column} AS text), '\\.0+$', '')"
    return f"CAST({column} AS text)"


def plain(column: pa.Array) -> pa.Array:
    """Return a column as readers of Parquet know it: without types of PostgreSQL, its text UTF-8."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_string(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:  # a database whose encoding is SQL_ASCII holds any bytes
            texts = column.cast(pa.binary()).to_pylist()
            return pa.array([None if t is None else t.decode("utf-8", "replace") for t in texts], pa.string())
    return column


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def said(error: Exception) -> str:
    """Return the sentence of the server in an error of ADBC."""
    text = str(error)
    found = re.search(r"(?:ERROR|FATAL):\s+(.*)", text) or re.search(r"(?:\[libpq\] )(.*)", text)
    return (found[1] if found else text.splitlines()[0] if text else type(error).__name__).strip()[:300]


def connect(address: Address) -> PostgreSQL:
    """Connect to `postgresql://user:password@host:port/database`; what lacks is taken as libpq takes it (PGUSER, …).

    Raises AmzrecError where the package is not installed, and where the server does not answer or let us in.
    """
    try:
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise AmzrecError(
            f"{address.scheme}:// needs a package that is not installed here ({error}): pip install 'amzrec[postgres]'"
        ) from error
    url = address.url
    if "connect_timeout" not in url and "PGCONNECT_TIMEOUT" not in os.environ:
        url += f"{'&' if '?' in url else '?'}connect_timeout={TIMEOUT}"
    try:
        return PostgreSQL(dbapi.connect(url), address)
    except Error as error:
        raise refused(address, address.hidden(said(error))) from None


def refused(address: Address, message: str) -> AmzrecError:
    """Return the error of a server that did not answer or let us in."""
    shown = address.shown.partition("#")[0]
    if re.search(r"authentication|password|no pg_hba|role .* does not exist", message):
        return AmzrecError(
            f"{shown} did not let us in ({message}): give user and password in the address (%40 for @, %23 for #, %2F "
            "for /), or in PGUSER and PGPASSWORD or ~/.pgpass"
        )
    if "database" in message and "does not exist" in message:
        return AmzrecError(f"{shown}: {message}. Name another behind the last / of the address")
    return AmzrecError(f"{shown} does not answer ({message}): see that the server runs, and its host and port")
