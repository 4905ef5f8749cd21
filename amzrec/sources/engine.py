"""The engine that runs the expressions: DuckDB inside the process, bounded in memory, spilling to disk."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import ibis

MEMORY = 3 << 30  # bytes that DuckDB may hold before it spills; less on a small machine


def connect(scratch: Path) -> Any:
    """A connection whose tables and spills live in the folder `scratch`."""
    con = ibis.duckdb.connect(scratch / "engine.duckdb")
    memory = min(MEMORY, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    for name, value in (
        ("preserve_insertion_order", "false"),
        ("memory_limit", f"'{memory >> 20}MiB'"),
        ("temp_directory", "'" + str(scratch / "spill").replace("'", "''") + "'"),
        ("enable_progress_bar", "false"),
    ):
        con.raw_sql(f"SET {name} = {value}")
    return con


def union(tables: list[Any]) -> Any:
    """All rows of tables with the same columns."""
    return functools.reduce(lambda a, b: a.union(b), tables)


def unreadable_lines(con: Any) -> int:
    """Lines that the reader left out so far because they are not UTF-8."""
    if "reject_errors" not in con.list_tables():
        return 0
    return int(con.raw_sql("SELECT count(*) FROM reject_errors").fetchone()[0])
