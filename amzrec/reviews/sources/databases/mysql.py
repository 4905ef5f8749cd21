"""MySQL and MariaDB through PyMySQL: rows come from a cursor of the server, and become Arrow batches of text."""

from __future__ import annotations

import configparser
import contextlib
import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

import pyarrow as pa

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.address import Address
from amzrec.reviews.sources.databases.protocol import DECIMAL, FLOAT, INTEGER, NESTED, TEXT, Columns, Wanted

if TYPE_CHECKING:
    import pymysql
    import pymysql.cursors

ROWS = 50_000  # of a batch
TIMEOUT = 15  # seconds until a server that does not answer is given up
OWN_FILE = Path("~/.my.cnf")  # user, password, host and port, as the programs of MySQL take them
PARAMETERS = ("unix_socket", "ssl_ca", "charset")  # that may stand behind the ? of an address
KINDS = {  # type codes of the protocol; dates stay text, which is ISO there
    **dict.fromkeys((1, 2, 3, 8, 9, 13, 16), INTEGER),
    **dict.fromkeys((4, 5), FLOAT),
    **dict.fromkeys((0, 246), DECIMAL),
    **dict.fromkeys((242, 245, 255), NESTED),  # vectors, JSON, geometry
}
BIT = 16
TABLES = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()
ORDER BY table_name, ordinal_position
"""

Value = str | bytes | None


class MySQL:
    """One connection, in one read-only transaction: all that is read is of one moment."""

    def __init__(self, connection: pymysql.Connection[pymysql.cursors.SSCursor], address: Address) -> None:
        self.connection, self.address, self.shown = connection, address, address.shown.partition("#")[0]
        for statement in (
            "SET time_zone = '+00:00'",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION READ ONLY",
        ):
            with self.executed(statement):
                pass

    @contextlib.contextmanager
    def executed(self, statement: str) -> Iterator[pymysql.cursors.SSCursor]:
        """Run a statement and give its cursor, which does not hold the rows; what is refused becomes an AmzrecError."""
        import pymysql

        try:
            with contextlib.closing(self.connection.cursor()) as cursor:
                cursor.execute(statement)
                yield cursor
        except pymysql.MySQLError as error:
            code, message = said(error)
            raise AmzrecError(
                f"{self.shown}: the query failed ({self.address.hidden(message)}). {self.remedy(code, message)}"
            ) from None

    def remedy(self, code: int, message: str) -> str:
        """Say what to do about an error, with the nearest tables where one does not exist."""
        if code == 1146 and (found := re.search(r"'(?:.*?\.)?([^.']*)' doesn't exist", message)):
            with contextlib.suppress(AmzrecError):
                tables = list(self.tables())
                near = difflib.get_close_matches(found[1], tables, n=3, cutoff=0.5) or tables[:12]
                return f"Its tables: {', '.join(near) or 'none that you may read'}"
        if code == 1060:
            return "Two columns of the query have one name: give one of them another, with AS"
        if code in (1142, 1143, 1044, 1045):
            return "Let this user read it (GRANT SELECT), or log in as another"
        return "Mend the --query: one SELECT, which may begin with WITH"

    def tables(self) -> dict[str, list[str]]:
        """List the tables and views of the database that the user may read."""
        found: dict[str, list[str]] = {}
        with self.executed(TABLES) as cursor:
            for table, column in cursor.fetchall():
                found.setdefault(str(table), []).append(str(column))
        return found

    def whole(self, table: str) -> str:
        """Return the query of all rows of a table."""
        return f"SELECT * FROM {quoted(table)}"

    def columns(self, query: str) -> Columns:
        """Return the columns of a query, of which no row is read."""
        with self.executed(f"SELECT * FROM (\n{query}\n) AS q LIMIT 0") as cursor:
            return {column[0]: KINDS.get(column[1], TEXT) for column in cursor.description}

    def rows(self, query: str, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        """Run a query and yield our columns as text; ids that are whole numbers have no point."""
        texts = [
            whole if kind in (DECIMAL, FLOAT) and ours not in ("stars", "timestamp") else plain
            for ours, (_, kind) in wanted.items()
        ]
        return self.selected(query, {ours: theirs for ours, (theirs, _) in wanted.items()}, texts)

    def records(self, query: str, columns: Columns) -> Iterator[pa.RecordBatch]:
        """Run a query and yield all its columns as text, under their own names."""
        texts = [whole if kind in (DECIMAL, FLOAT) else plain for kind in columns.values()]
        return self.selected(query, {name: name for name in columns}, texts)

    def selected(
        self, query: str, names: dict[str, str], texts: Sequence[Callable[[Value], str | None]]
    ) -> Iterator[pa.RecordBatch]:
        """Run a query and yield its columns under these names (new → old), each value as what `texts` makes of it."""
        chosen = ", ".join(f"{quoted(old)} AS {quoted(new)}" for new, old in names.items())
        with self.executed(f"SELECT {chosen} FROM (\n{query}\n) AS q") as cursor:
            bits = [column[1] == BIT for column in cursor.description]
            made = [of_bits if is_bit else text for is_bit, text in zip(bits, texts, strict=True)]
            while rows := cursor.fetchmany(ROWS):
                columns = zip(made, zip(*rows, strict=True), strict=True)
                arrays = [pa.array([text(value) for value in column], pa.string()) for text, column in columns]
                yield pa.RecordBatch.from_arrays(arrays, list(names))

    def events(self) -> None:
        """Return nothing: the service does not keep events here."""

    def close(self) -> None:
        """End the transaction and the connection."""
        with contextlib.suppress(Exception):
            self.connection.close()


def plain(value: Value) -> str | None:
    """Return a value as text; bytes, such as those of a binary UUID, as hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else value


def whole(value: Value) -> str | None:
    """Return a number as people write it: 12 for 12.00."""
    text = plain(value)
    return text.rstrip("0").rstrip(".") if text and "." in text and "e" not in text else text


def of_bits(value: Value) -> str | None:
    """Return the number that a BIT column holds."""
    return str(int.from_bytes(value, "big")) if isinstance(value, bytes) else value


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def said(error: Exception) -> tuple[int, str]:
    """Return the number and the sentence of an error of the server."""
    code, *rest = (*error.args, 0)
    message = str(rest[0]) if isinstance(code, int) and len(rest) > 1 else str(error)
    return (code if isinstance(code, int) else 0), " ".join(message.split())[:300] or type(error).__name__


def connect(address: Address) -> MySQL:
    """Connect to `mysql://user:password@host:port/database`; what lacks is taken from MYSQL_PWD and ~/.my.cnf.

    Raises AmzrecError where the package is not installed, and where the server does not answer or let us in.
    """
    try:
        import pymysql
        from pymysql.converters import encoders  # without decoders: values come as the text that the server sends
        from pymysql.cursors import SSCursor
    except ImportError as error:
        raise AmzrecError(
            f"{address.scheme}:// needs a package that is not installed here ({error}): pip install 'amzrec[mysql]'"
        ) from error
    parts, own = address.parts, OWN_FILE.expanduser()
    database, more = unquote(parts.path.strip("/")), dict(parse_qsl(parts.query))
    shown = address.shown.partition("#")[0]
    if not database:
        raise AmzrecError(f"{shown} names no database: write it behind the host, as in mysql://user@host/shop")
    if unknown := set(more) - set(PARAMETERS):
        raise AmzrecError(f"{shown} has the unknown parameter {min(unknown)!r}; allowed: {', '.join(PARAMETERS)}")
    try:
        connection = pymysql.connect(
            host=parts.hostname, port=parts.port or 0, database=database,
            user=unquote(parts.username or "") or None,
            password=(unquote(parts.password or "") or os.environ.get("MYSQL_PWD", "")).encode(),
            read_default_file=str(own) if own.is_file() else None,
            connect_timeout=TIMEOUT, cursorclass=SSCursor, conv=encoders, **{"charset": "utf8mb4", **more},
        )  # fmt: skip
        return MySQL(connection, address)
    except (pymysql.MySQLError, configparser.Error, RuntimeError, OSError) as error:
        raise refused(address, *said(error)) from None


def refused(address: Address, code: int, message: str) -> AmzrecError:
    """Return the error of a server that did not answer or let us in."""
    shown, message = address.shown.partition("#")[0], address.hidden(message)
    if code == 1049:
        return AmzrecError(f"{shown}: {message}. Name another behind the last / of the address")
    if code in (1044, 1045, 1698, 2061) or "auth" in message.lower():
        return AmzrecError(
            f"{shown} did not let us in ({message}): give user and password in the address (%40 for @, %23 for #, %2F "
            "for /), or in MYSQL_PWD or ~/.my.cnf"
        )
    return AmzrecError(f"{shown} does not answer ({message}): see that the server runs, and its host and port")
