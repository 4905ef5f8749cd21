"""The engine that runs the expressions: DuckDB inside the process, bounded in memory, spilling to disk."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError

MEMORY = 9 << 28  # bytes that DuckDB may hold before it spills, of 4 GB for all; less on a small machine


def connect(scratch: Path, config: PrepareConfig | None = None) -> Any:
    """A connection whose tables are in memory, and in the folder `scratch` what does not fit there; or to Spark.

    Tables in a database file would be compressed as they are written, which takes longer than reading the reviews.
    Raises AmzrecError where Spark is wanted and pyspark or Java is not there.
    """
    if config and config.engine == "spark":
        try:
            from amzrec.reviews.engines import spark
        except ImportError as error:
            raise AmzrecError(
                f"--engine spark needs pyspark, which is not installed here ({error}): pip install 'amzrec[spark]'; "
                "--engine duckdb needs nothing more"
            ) from error
        return spark.connect(scratch, config.spark_master)
    con = ibis.duckdb.connect()
    memory = min(MEMORY, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    for name, value in (
        ("preserve_insertion_order", "false"),
        ("memory_limit", f"'{memory >> 20}MiB'"),
        ("temp_directory", "'" + str(scratch / "spill").replace("'", "''") + "'"),
        ("enable_progress_bar", "false"),
    ):
        con.raw_sql(f"SET {name} = {value}")
    return con


@contextlib.contextmanager
def working(con: Any, source: str, folder: Path) -> Iterator[None]:
    """Close the connection at the end; what the engine raises becomes an AmzrecError."""
    if con.name == "pyspark":
        from amzrec.reviews.engines import spark

        with spark.working(con, source, folder):
            yield
        return
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        said = str(error).splitlines()[0].removeprefix("IO Error: ").replace(str(folder), folder.name)
        if isinstance(error, (duckdb.IOException, duckdb.FatalException, duckdb.OutOfMemoryException)):
            raise AmzrecError(
                f"preparing {source} ran out of disk or memory ({said}); nothing was left behind. "
                "Free some space, or choose an --out on a larger disk"
            ) from error
        raise AmzrecError(
            f"{source} could not be read ({type(error).__name__}: {said}): see that it is the file you meant, "
            "or name its --format or --columns"
        ) from error
    finally:
        with contextlib.suppress(duckdb.Error):
            con.disconnect()


def fetched(table: Any) -> Any:
    """All rows as an Arrow table; `to_pyarrow` and `execute` of Ibis do the same, and import pandas for it."""
    schema = table.schema().to_pyarrow()
    return pa.Table.from_batches([batch.cast(schema) for batch in table.to_pyarrow_batches()], schema)


def streamed(con: Any, stream: Any) -> Any:
    """An object that gives Arrow streams (`__arrow_c_stream__`) as a table of DuckDB, which scans it anew each time."""
    name = f"stream_{id(stream):x}"
    con.con.register(name, stream)
    return con.table(name)


def size(table: Any) -> int:
    """How many rows a table has."""
    return int(fetched(table.agg(n=table.count()))["n"][0].as_py())


def drop(con: Any, *tables: str) -> None:
    """Give back the memory of tables that are no longer needed (those of Spark are files of the scratch folder)."""
    if con.name == "duckdb":
        for table in tables:
            con.drop_table(table, force=True)


def beside(con: Any) -> Any:
    """A connection to the same tables, for another thread."""
    return ibis.duckdb.from_connection(con.con.cursor()) if con.name == "duckdb" else con


def union(tables: list[Any]) -> Any:
    """All rows of tables with the same columns."""
    return functools.reduce(lambda a, b: a.union(b), tables)


def left_out(con: Any) -> list[tuple[str, int, str, bool]]:
    """What the readers left out so far: file, line, text, and whether it is not UTF-8 (else records do not fit)."""
    if con.name == "pyspark" or "reject_errors" not in con.list_tables():
        return []
    rows = con.raw_sql(
        "SELECT file_path, line, any_value(csv_line), bool_or(error_type = 'INVALID ENCODING') "
        "FROM reject_errors JOIN reject_scans USING (scan_id, file_id) GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [(path, line, text or "", bad) for path, line, text, bad in rows.fetchall()]
