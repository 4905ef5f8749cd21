"""Which rows were refused: file, line, reason and text of each, found in a second pass over the files that have any."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.reviews.checks import checked
from amzrec.reviews.engines.engine import fetched
from amzrec.reviews.sources.relation import BAD_RECORD, NOT_UTF8, PLACE, Part, Source, open_bytes

SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())])
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
        if chunk:  # Arrow imports pandas for any list, which takes half a second
            writer.write_table(table_of(chunk))


def table_of(chunk: list[Reject]) -> pa.Table:
    """Rejects as an Arrow table."""
    columns = list(zip(*chunk, strict=True))
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def refused_by_reader(unread: list[tuple[str, int, str, bool]]) -> Counter[str]:
    """How many lines the readers left out, by reason; a record that swallowed lines counts with all of them."""
    counts: Counter[str] = Counter()
    for _, _, text, bad in unread:
        counts[NOT_UTF8 if bad else BAD_RECORD] += 1 if bad else 1 + text.rstrip("\n").count("\n")
    return counts


def records(unread: list[tuple[str, int, str, bool]]) -> Iterator[Reject]:
    """The records that did not fit together (lines that are not UTF-8 come with their file)."""
    return ((path, line, BAD_RECORD, text[:LONGEST]) for path, line, text, bad in unread if not bad)


def refused(con: Any, source: Source, part: Part, key: str, titles: Any) -> Iterator[Reject]:
    """The rows of one file that the checks refuse, and its lines that are not UTF-8, in order."""
    if con.name == "pyspark":
        reasons = reasons_of(source, part, part.reviews.rename(place=PLACE), key, titles)
        for number, reason, text in con.refused(part.file, part.reviews, reasons):
            yield str(part.file), number, reason, text[:LONGEST]
        return
    con.raw_sql("SET preserve_insertion_order = true")
    try:
        reasons = reasons_of(source, part, numbered(part), key, titles)
        yield from lines_of(part, reasons) if part.lines else rows_of(part, reasons)
    finally:
        con.raw_sql("SET preserve_insertion_order = false")


def reasons_of(source: Source, part: Part, reviews: Any, key: str, titles: Any) -> dict[int, str]:
    """The reason of every refused row of `reviews`, by its `place`."""
    table = checked(source, dataclasses.replace(part, reviews=reviews), key, titles)
    table = fetched(table.filter(table.reason.notnull()).select("place", "reason").order_by("place"))
    return dict(zip(table["place"].to_pylist(), table["reason"].to_pylist(), strict=True))


def numbered(part: Part) -> Any:
    """The reviews of a part with their place in the file, from 0; right only while the engine keeps the order."""
    reviews = part.reviews if part.in_order is None else part.in_order
    return reviews.mutate(place=ibis.row_number())


def lines_of(part: Part, reasons: dict[int, str]) -> Iterator[Reject]:
    """The lines of a text file at these places among its readable, non-blank lines, and those that are not UTF-8."""
    place = -part.header
    with open_bytes(part.file) as file:
        for number, whole in enumerate(file, start=1):
            for line in whole.rstrip(b"\n").split(b"\r"):
                if not (line.strip() if part.json else line):
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
    table = numbered(part)
    wanted = ibis.memtable(pa.table({"place": pa.array(list(reasons), pa.int64())}))
    for row in fetched(table.semi_join(wanted, "place").order_by("place")).to_pylist():
        place = row.pop("place")
        text = "\t".join("" if value is None else str(value) for value in row.values())
        yield str(part.file), place + 1 + part.header, reasons[place], text[:LONGEST]


def is_utf8(line: bytes) -> bool:
    """Whether these bytes are UTF-8 text."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
