"""DuckDB inside the process: bounded in memory, spilling to disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Column, Engine, Refused, Table, Unread
from amzrec.reviews.relation import BROKEN, NOT_JSON, NOT_UTF8, Part
from amzrec.reviews.textfile import LONGEST, blank_lines, is_gzip, open_bytes

MEMORY = 9 << 28  # bytes that DuckDB may hold before it spills, of 4 GB for all; less on a small machine
NO_DELIMITER = "\x01\x02\x03\x04"  # stands in no text file, so that a line is one field
NO_NULL = "\x02\x03"  # the text that would be read as null: none, or empty fields would be
OUT_OF_SPACE = ("No space left", "Could not write", "could not allocate", "Out of Memory", "max_temp_directory_size")


def _hash(text: str) -> int:  # type: ignore[empty-body]
    """DuckDB's own hash of 64 bits."""


def _json(text: str, path: str) -> str:  # type: ignore[empty-body]
    """The value at a path in a text of JSON."""


json_value: Any = ibis.udf.scalar.builtin(_json, name="json_extract_string")
hash_of: Any = ibis.udf.scalar.builtin(_hash, name="hash", signature=(("string",), "uint64"))


class DuckDB(Engine):
    """The engine of --engine duckdb."""

    name = "duckdb"

    def __init__(self, con: Any) -> None:
        self.con = con  # Ibis' connection

    @contextlib.contextmanager
    def working(self, source: str, folder: Path) -> Iterator[None]:
        """Work on `source` for the folder under construction, as the protocol says."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            message = str(error).splitlines()[0].removeprefix("IO Error: ").replace(str(folder), folder.name)
            if any(words in str(error) for words in OUT_OF_SPACE):
                raise AmzrecError(
                    f"preparing {source} ran out of disk or memory ({message}); nothing was left behind. "
                    "Free some space, or choose an --out on a larger disk"
                ) from error
            raise AmzrecError(
                f"{source} could not be read ({type(error).__name__}: {message}): see that it is the file you meant, "
                "or name its --format or --columns"
            ) from error
        finally:
            with contextlib.suppress(duckdb.Error):
                self.con.disconnect()

    def read_lines(self, path: Path, header: bool) -> Table:
        """Read lines into the column `line`; those that are not UTF-8 are left out."""
        return self._read_csv(
            path,
            delim=NO_DELIMITER,
            quote="",
            escape="",
            header=header,
            columns={"line": "VARCHAR"},
            skip=blank_lines(path),
            strict_mode=False,
        )

    def read_records(self, path: Path, names: list[str], delimiter: str, header: bool) -> Table:
        """Read records into text columns; those that do not fit together are left out."""
        columns = dict.fromkeys(names, "VARCHAR")
        return self._read_csv(path, delim=delimiter, quote='"', escape='"', header=header, columns=columns)

    def _read_csv(self, path: Path, **options: Any) -> Table:
        packing = "gzip" if is_gzip(path) else "none"
        return self.con.read_csv(
            str(path), auto_detect=False, nullstr=NO_NULL, compression=packing, store_rejects=True,
            max_line_size=LONGEST + 2, buffer_size=2 * LONGEST + 4, **options,
        )  # fmt: skip

    def read_objects(self, path: Path, keys: Mapping[str, tuple[str, ...]]) -> Table:
        """Read values of JSON lines as text, with BROKEN."""
        packing = "gzip" if is_gzip(path) else "uncompressed"
        outermost = sorted({path[0] for path in keys.values()})
        types = dict.fromkeys(outermost, "VARCHAR")
        table = self.con.read_json(
            str(path), columns=types, format="newline_delimited", ignore_errors=True, compression=packing,
            maximum_object_size=LONGEST + 2,
        )  # fmt: skip
        nothing = ibis.and_(*(table[key].isnull() for key in outermost))
        values = {name: inner_value(table[path[0]], path[1:]) for name, path in keys.items()}
        return table.select(**values, **{BROKEN: ibis.cases((nothing, NOT_JSON), else_=ibis.null().cast("string"))})

    def read_parquet(self, path: Path) -> Table:
        """Read a Parquet file."""
        return self.con.read_parquet(str(path))

    def scan(self, stream: Any) -> Table | None:
        """Register the stream under a name of its own."""
        name = f"stream_{id(stream):x}"
        self.con.con.register(name, stream)
        return self.con.table(name)

    def unread(self) -> list[Unread]:
        """List what DuckDB keeps of the records that its CSV reader rejected."""
        if "reject_errors" not in self.con.list_tables():
            return []
        rows = self.con.raw_sql(
            "SELECT file_path, line, any_value(csv_line), bool_or(error_type = 'INVALID ENCODING') "
            "FROM reject_errors JOIN reject_scans USING (scan_id, file_id) GROUP BY 1, 2 ORDER BY 1, 2"
        )
        return [Unread(path, line, text or "", not_utf8) for path, line, text, not_utf8 in rows.fetchall()]

    def forget_unread(self) -> None:
        """Empty the tables of DuckDB that keep what was rejected."""
        if "reject_errors" in self.con.list_tables():
            for name in ("reject_errors", "reject_scans"):
                self.con.raw_sql(f"DELETE FROM {name}")

    @contextlib.contextmanager
    def in_order(self, part: Part) -> Iterator[Table]:
        """Number the rows; right only inside this context, where DuckDB keeps the order of the file."""
        self.con.raw_sql("SET preserve_insertion_order = true")
        try:
            yield numbered(part)
        finally:
            self.con.raw_sql("SET preserve_insertion_order = false")

    def refused(self, part: Part, reasons: dict[int, str]) -> Iterator[Refused]:
        """Find the rows in the text of the file, or in the table where there are no lines of text."""
        return refused_lines(part, reasons) if part.lines else self._refused_rows(part, reasons)

    def _refused_rows(self, part: Part, reasons: dict[int, str]) -> Iterator[Refused]:
        table = numbered(part)
        wanted = ibis.memtable(pa.table({"position": pa.array(list(reasons), pa.int64())}))
        for row in self.fetch(table.semi_join(wanted, "position").order_by("position")).to_pylist():
            position = row.pop("position")
            text = "\t".join("" if value is None else str(value) for value in row.values())
            yield Refused(position + 1 + part.header, reasons[position], text)

    def table(self, name: str) -> Table:
        """Return a table of this connection."""
        return self.con.table(name)

    def create_table(self, name: str, rows: Table | pa.Table, overwrite: bool = False) -> Table:
        """Compute a table into memory."""
        return self.con.create_table(name, rows, overwrite=overwrite)

    def drop(self, *names: str) -> None:
        """Drop tables, those that are there."""
        for name in names:
            self.con.drop_table(name, force=True)

    def beside(self) -> DuckDB:
        """Open a cursor on the same database."""
        return DuckDB(ibis.duckdb.from_connection(self.con.con.cursor()))

    def fetch(self, table: Table) -> pa.Table:
        """Return all rows; `to_pyarrow` and `execute` of Ibis do so too, and import pandas for it."""
        schema = table.schema().to_pyarrow()
        return pa.Table.from_batches([batch.cast(schema) for batch in table.to_pyarrow_batches()], schema)

    def batches(self, table: Table, rows: int) -> Iterator[pa.RecordBatch]:
        """Return rows as DuckDB computes them."""
        return iter(table.to_pyarrow_batches(chunk_size=rows))

    def write_parquet(self, table: Table, path: Path) -> None:
        """Let DuckDB write the file."""
        self.con.to_parquet(table, str(path))

    def hash(self, text: Column) -> Column:
        """Hash with DuckDB's `hash`."""
        return hash_of(text)


def inner_value(column: Column, path: tuple[str, ...]) -> Column:
    """Return the value at a path of keys in a column of JSON, the column itself where the path has none."""
    if not path:
        return column
    keys = "".join('."' + key.replace('"', '\\"') + '"' for key in path)
    return json_value(column, "$" + keys)


def numbered(part: Part) -> Table:
    """Return the reviews of a part with their position in the file, from 0, as long as the engine keeps the order."""
    reviews = part.reviews if part.in_order is None else part.in_order
    return reviews.mutate(position=ibis.row_number())


def refused_lines(part: Part, reasons: dict[int, str]) -> Iterator[Refused]:
    """Find the lines at these positions among the non-blank lines after the header, and those that are not UTF-8.

    The CSV reader leaves lines that are not UTF-8 out, so that they have no position; the JSON reader does not.
    """
    position = -part.header
    with open_bytes(part.file) as file:
        for number, whole in enumerate(file, start=1):
            for line in whole.rstrip(b"\n").split(b"\r"):
                if not (line.strip() if part.json else line):
                    continue
                text = line.decode("utf-8", "replace")
                if not part.json and not is_utf8(line):
                    yield Refused(number, NOT_UTF8, text)
                    continue
                if position in reasons:
                    yield Refused(number, reasons[position], text)
                position += 1


def is_utf8(line: bytes) -> bool:
    """Return whether these bytes are UTF-8 text."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def connect(scratch: Path, config: PrepareConfig) -> DuckDB:
    """Open a database in memory that spills into the folder `scratch`.

    Tables in a database file would be compressed as they are written, which takes longer than reading the reviews.
    """
    con = ibis.duckdb.connect()
    memory = min(MEMORY, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    for name, value in (
        ("preserve_insertion_order", "false"),
        ("memory_limit", f"'{memory >> 20}MiB'"),
        ("temp_directory", "'" + str(scratch / "spill").replace("'", "''") + "'"),
        ("enable_progress_bar", "false"),
    ):
        con.raw_sql(f"SET {name} = {value}")
    return DuckDB(con)
