"""What reviews need of an engine: files read as tables, tables computed and handed out, refused rows found again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from amzrec.reviews.relation import Part

Table = Any  # a table expression of Ibis, which has no types that mypy could follow
Column = Any  # a column expression of Ibis


class Refused(NamedTuple):
    """One row that is not a review, as rejects.parquet lists it."""

    line: int  # of the file, from 1; of a file without lines of text, its row
    reason: str
    text: str


class Unread(NamedTuple):
    """One record that a reader left out of its table."""

    file: str
    line: int  # where it begins, from 1
    text: str
    not_utf8: bool  # else its quotes or number of fields do not fit


class Engine(Protocol):
    """The library that runs the expressions of Ibis, and what differs between one such library and another.

    Each module of this folder that has a function `connect(scratch, config)` is an engine, under the module's name.
    All engines give the same rows for the same file. Tables have names, belong to one connection, and go with it.

    Readers give the rows of one file as text columns, and may add columns of their own: BROKEN says why a line could
    not be read, else null; POSITION and LINE say where a row stands and what its line was. What they leave out of their
    table instead is in `unread`.
    """

    name: str  # as --engine takes it

    def working(self, source: str, folder: Path) -> AbstractContextManager[None]:
        """Work on `source` for the folder under construction; close the connection at the end.

        What the library raises meanwhile becomes an AmzrecError that names the source.
        """

    def read_lines(self, path: Path, header: bool) -> Table:
        """Read the non-blank lines of a plain or gzip text file, without the header, into a column `line`."""

    def read_records(self, path: Path, names: list[str], delimiter: str, header: bool) -> Table:
        """Read delimited text whose quoted fields may go over line ends, one column per name."""

    def read_objects(self, path: Path, keys: Mapping[str, tuple[str, ...]]) -> Table:
        """Read values of JSON lines as text, BROKEN where a line is no object or has none of the outermost keys.

        `keys` has the path of keys, from the outermost on, by the name of the column to make.
        """

    def read_parquet(self, path: Path) -> Table:
        """Read a Parquet file; its columns keep their types."""

    def scan(self, stream: Any) -> Table | None:
        """Take an object that gives Arrow streams (`__arrow_c_stream__`), and scan it anew each time it is needed.

        None: the engine cannot, because it does not run in this process.
        """

    def unread(self) -> list[Unread]:
        """List what the readers have left out so far."""

    def forget_unread(self) -> None:
        """Begin that list anew, because the files are read again."""

    def in_order(self, part: Part) -> AbstractContextManager[Table]:
        """Give the reviews of a part with a column `position` (int64), which grows as the file goes on."""

    def refused(self, part: Part, reasons: dict[int, str]) -> Iterator[Refused]:
        """Find the rows at these positions (as `in_order` gives them), in the order of the file."""

    def table(self, name: str) -> Table:
        """Return the table that `create_table` made under this name."""

    def create_table(self, name: str, rows: Table | pa.Table, overwrite: bool = False) -> Table:
        """Compute the rows now and keep them under this name."""

    def drop(self, *names: str) -> None:
        """Give back the memory of tables that are no longer needed."""

    def beside(self) -> Engine:
        """Return a connection to the same tables, for another thread."""

    def fetch(self, table: Table) -> pa.Table:
        """Return all rows of a small result."""

    def batches(self, table: Table, rows: int) -> Iterator[pa.RecordBatch]:
        """Return a result of any size in order, at most `rows` rows at a time."""

    def write_parquet(self, table: Table, path: Path) -> None:
        """Write a result of any size as one Parquet file, in order."""

    def hash(self, text: Column) -> Column:
        """Return the 64-bit hash of a text column as integers; which hash it is depends on the engine."""

    def size(self, table: Table) -> int:
        """Count the rows of a table."""
        return int(self.fetch(table.agg(n=table.count()))["n"][0].as_py())


def union(tables: list[Table]) -> Table:
    """Return all rows of tables that have the same columns."""
    first, *others = tables
    for other in others:
        first = first.union(other)
    return first
