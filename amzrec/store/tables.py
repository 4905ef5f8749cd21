"""Parquet files of a folder that are read only where they hold what was written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.arrays import Array
from amzrec.errors import AmzrecError

BLOCK = 1 << 22


class Damaged(ValueError):
    """A file does not hold what was written."""


def checksum(file: Path) -> str:
    """Return the CRC-32 of a file as 8 hex digits: a changed byte changes it."""
    crc = 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"


def checksum_of(document: Mapping[str, object]) -> str:
    """Return the CRC-32 of decoded JSON, whatever the order of its keys, without its own `checksums`."""
    kept = {key: value for key, value in document.items() if key != "checksums"}
    return f"{zlib.crc32(json.dumps(kept, sort_keys=True).encode()):08x}"


def read_checked(file: Path, checksums: Mapping[str, str], schema: pa.Schema) -> pa.Table:
    """Read a Parquet file that has the columns of `schema`; Damaged where it is not what was written.

    `checksums` has that of the file under its name, unless an older amzrec wrote it. Nothing of the file is decoded
    before its checksum is right.
    """
    expected = checksums.get(file.name)
    if expected is not None and checksum(file) != expected:
        raise Damaged(f"{file.name} is not as it was written (its checksum is another)")
    try:
        table = pq.read_table(file)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise Damaged(f"{file.name} cannot be read ({error})") from error
    for field in schema:
        if field.name not in table.column_names or table.schema.field(field.name).type != field.type:
            raise Damaged(f"{file.name} has no column {field.name} of {field.type}")
    return table


def check_rows(rows: Array, size: int, what: str) -> None:
    """Raise Damaged where rows [n] do not point into a table of this size."""
    if rows.dtype.kind != "i":  # some are null
        raise Damaged(f"a review is of no {what}")
    if len(rows) and not (rows.min() >= 0 and rows.max() < size):
        wrong = rows[(rows < 0) | (rows >= size)]
        raise Damaged(f"{len(wrong):,} of {len(rows):,} reviews are of a {what} that is not there (row {wrong[0]:,})")


def check_finite(values: Array, what: str) -> None:
    """Raise Damaged where one of the values [n] is below 0 or no number."""
    if not bool((np.isfinite(values) & (values >= 0)).all()):
        raise Damaged(f"a {what} is no number from 0 on")


def damaged(folder: Path, error: Damaged) -> AmzrecError:
    """Make the error for a dataset folder."""
    return AmzrecError(
        f"dataset folder {folder} is damaged: {error}. Prepare it again: "
        f"amzrec prepare SOURCE --out {folder} --overwrite"
    )
