"""What reviews need of a database: its tables, the columns of a query, and its rows as Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa

from amzrec.store.seals import Examined

# Kinds of columns: what to do so that a file of the same values would be read alike
TEXT, INTEGER, FLOAT, DECIMAL, BOOLEAN = "text", "integer", "float", "decimal", "boolean"
MOMENT = "moment"  # a date, or a time with or without a zone; without one it is taken as UTC
NESTED = "nested"  # JSON, a list, a record

Columns = dict[str, str]  # column of a query → its kind
Wanted = dict[str, tuple[str, str]]  # our column → the column of the query, its kind
Tables = Callable[[list[str]], bool]  # whether a table of these columns is the one that is looked for


class Database(Protocol):
    """A connection to a database.

    Each module of this folder that has a function `connect(address)` is one. All methods raise AmzrecError where the
    database refuses; what they say never has a password in it.
    """

    def tables(self) -> dict[str, list[str]]:
        """List the tables and views that may be read, by the name that `whole` takes, with their columns."""

    def whole(self, table: str) -> str:
        """Return the query of all rows of one of `tables`."""

    def columns(self, query: str) -> Columns:
        """Return the columns of a query, without running it."""

    def rows(self, query: str, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        """Run a query and yield our columns, ids and titles as text, stars and times as numbers or text."""

    def records(self, query: str, columns: Columns) -> Iterator[pa.RecordBatch]:
        """Run a query and yield all its columns: texts, numbers and lists of texts."""

    def events(self) -> Examined | None:
        """Look at all events of the service; None for a database without sealed ones."""

    def close(self) -> None:
        """Give the connection back."""
