"""Which rows were refused: file, line, reason and text of each, found in a second pass over the files that have any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.sources.checks import checked
from amzrec.sources.relation import Part, Source, open_bytes

SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())])
NOT_UTF8 = "not UTF-8"
LONGEST = 10_000  # characters of a refused line that are kept
CHUNK = 10_000

Reject = tuple[str, int, str, str]  # file, line from 1, reason, text


def write_rejects(path: Path, rejects: Iterator[Reject]) -> None:
    """rejects.parquet, in chunks."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        chunk: list[Reject] = []
        for reject in rejects:
            chunk.append(reject)
            if len(chunk) == CHUNK:
                writer.write_table(table_of(chunk))
                chunk = []
        writer.write_table(table_of(chunk))


def table_of(chunk: list[Reject]) -> pa.Table:
    """Rejects as an Arrow table."""
    columns = list(zip(*chunk, strict=True)) or [(), (), (), ()]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def refused(con: Any, source: Source, part: Part, key: str) -> Iterator[Reject]:
    """The refused rows of one file, in its order."""
    con.raw_sql("SET preserve_insertion_order = true")
    try:
        table = checked(source, part, key).mutate(place=ibis.row_number())
        table = table.filter(table.reason.notnull()).select("place", "reason").order_by("place").to_pyarrow()
        reasons = dict(zip(table["place"].to_pylist(), table["reason"].to_pylist(), strict=True))
        if part.lines:
            yield from lines_of(part, reasons)
        else:
            yield from rows_of(part, reasons)
    finally:
        con.raw_sql("SET preserve_insertion_order = false")


def lines_of(part: Part, reasons: dict[int, str]) -> Iterator[Reject]:
    """The lines of a text file at these places among its readable, non-blank lines, and those that are not UTF-8."""
    place = -part.header
    with open_bytes(part.file) as file:
        for number, whole in enumerate(file, start=1):
            for line in whole.rstrip(b"\n").split(b"\r"):
                if not line:
                    continue
                text = line.decode("utf-8", "replace")[:LONGEST]
                if not part.json and not is_utf8(line):
                    yield str(part.file), number, NOT_UTF8, text
                    continue
                if place in reasons:
                    yield str(part.file), number, reasons[place], text
                place += 1


def rows_of(part: Part, reasons: dict[int, str]) -> Iterator[Reject]:
    """The rows of a file without lines, their values separated by tabs; line is the row, from 1."""
    table = part.reviews.mutate(place=ibis.row_number())
    for place in sorted(reasons):
        row = table.filter(table.place == place).drop("place").to_pyarrow().to_pylist()[0]
        text = "\t".join("" if value is None else str(value) for value in row.values())
        yield str(part.file.name), place + 1, reasons[place], text[:LONGEST]


def is_utf8(line: bytes) -> bool:
    """Whether these bytes are UTF-8 text."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
