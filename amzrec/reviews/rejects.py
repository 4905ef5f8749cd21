"""The rows that were refused: file, line, reason and text, found in a second pass over the files that have any."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.reviews.checks import checked
from amzrec.reviews.engines.protocol import Engine, Table, Unread
from amzrec.reviews.relation import BAD_RECORD, BLANK, NOT_UTF8, Part, Source

SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())])
LONGEST = 10_000  # characters of a refused line that are kept
CHUNK = 10_000


class Reject(NamedTuple):
    """One row of rejects.parquet."""

    file: str
    line: int  # from 1; of a file without lines of text, its row
    reason: str
    text: str


def write_rejects(path: Path, rejects: Iterator[Reject]) -> None:
    """Write rejects.parquet, in chunks."""
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
    """Return rejects as an Arrow table."""
    columns = list(zip(*chunk, strict=True))
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def counts_of(unread: list[Unread]) -> Counter[str]:
    """Count the lines that the readers left out, by reason; a record that swallowed lines counts with all of them."""
    counts: Counter[str] = Counter()
    for record in unread:
        if record.not_utf8:
            counts[NOT_UTF8] += 1
        else:
            counts[BAD_RECORD] += 1 + record.text.rstrip("\n").count("\n")
    return counts


def unread_records(unread: list[Unread], called: dict[str, str]) -> Iterator[Reject]:
    """Yield the records that do not fit together; lines that are not UTF-8 come with their file, in `refused_rows`.

    `called` says what files are called here that are copies of something else.
    """
    return (
        Reject(called.get(r.file) or r.file, r.line, BAD_RECORD, r.text[:LONGEST]) for r in unread if not r.not_utf8
    )


def refused_rows(engine: Engine, source: Source, part: Part, key: str, titles: Table | None) -> Iterator[Reject]:
    """Yield the rows of one file that the checks refuse, and its lines that are not UTF-8, in order."""
    with engine.in_order(part) as reviews:
        rows = checked(source, dataclasses.replace(part, reviews=reviews), key, titles)
        rows = engine.fetch(
            rows.filter(rows.reason.notnull() & (rows.reason != BLANK))
            .select("position", "reason")
            .order_by("position")
        )
        reasons = dict(zip(rows["position"].to_pylist(), rows["reason"].to_pylist(), strict=True))
        for line, reason, text in engine.refused(part, reasons):
            yield Reject(part.called or str(part.file), line, reason, text[:LONGEST])
