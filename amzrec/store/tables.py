"""Parquet files of a folder that are read only where they hold what was written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.arrays import Array
from amzrec.errors import one_line
from amzrec.store.manifest import Damaged, Manifest


class Held:
    """Files of a folder that are kept open, so that they can be read after another folder has taken its place.

    Where the system does not let a process open its own open files again (it has no /proc), nothing is kept, and files
    are read by their names.
    """

    OWN = Path("/proc/self/fd")

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Open the files; OSError where one is missing."""
        self.numbers: dict[str, int] = {}
        if self.OWN.is_dir():
            for name in names:
                self.numbers[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def file(self, name: str) -> Path | None:
        """Return where a file is read; None: by its name."""
        return self.OWN / str(self.numbers[name]) if name in self.numbers else None

    def __del__(self) -> None:
        for number in self.numbers.values():
            with contextlib.suppress(OSError):
                os.close(number)

    def __reduce__(self) -> tuple[type[Held], tuple[Path, tuple[str, ...]]]:
        return Held, (Path(), ())  # another process has none of the files


def read_checked(file: Path, manifest: Manifest | None, schema: pa.Schema, held: Path | None = None) -> pa.Table:
    """Read a Parquet file that has the columns of `schema`; Damaged where it is not what was written.

    Nothing of the file is decoded before its checksum is that of `manifest`, unless an older amzrec wrote it. `held`
    is where it is read, where that is not by its name.
    """
    if manifest is not None:
        manifest.check_content(file.parent, file.name, held)
    try:
        table = pq.read_table(held or file)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise Damaged(f"{file.name} cannot be read ({one_line(error)})") from error
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
