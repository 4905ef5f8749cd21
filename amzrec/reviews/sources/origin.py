"""Where reviews come from, as a person gave it: a name, several names, a frame in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.errors import AmzrecError, one_line
from amzrec.reviews.sources import address

Given = Any  # None, str, Path, a list of them, or a frame of pandas, Polars or Arrow


@dataclasses.dataclass(frozen=True)
class Origin:
    """Reviews that can be opened, and what messages and dataset.json call them."""

    shown: str
    names: tuple[str, ...]  # one source, or several files that are read as one
    is_copy: bool = False  # the name is that of a copy, which nobody should see


def origin_of(source: Given, scratch: Path, sample: Callable[[], Path]) -> Origin:
    """Return where reviews come from; frames are copied into the folder `scratch`.

    None is the folder that `sample` finds. Raises AmzrecError where it is nothing that reviews can be read from.
    """
    if source is None:
        return Origin(str(sample()), (str(sample()),))
    if isinstance(source, str | Path):
        return Origin(address.masked(str(source)), (str(source),))
    if is_frame(source):
        library = type(source).__module__.partition(".")[0]
        return Origin(f"a {type(source).__name__} of {library}", (spooled(source, scratch),), is_copy=True)
    names = tuple(source) if isinstance(source, Iterable) and not isinstance(source, Mapping) else ()
    if not names or not all(isinstance(name, str | Path) for name in names):
        raise AmzrecError(
            f"a source is a {type(source).__name__}; allowed: a path, a list of paths, or a table of pandas, Polars or "
            "Arrow"
        )
    names = tuple(map(str, names))
    return Origin(", ".join(map(address.masked, names)), names)


def is_frame(source: Given) -> bool:
    """Return whether something is a table in memory, of pandas, Polars, Arrow or another that gives Arrow streams."""
    return hasattr(source, "columns") if hasattr(source, "iloc") else hasattr(source, "__arrow_c_stream__")


def spooled(frame: Given, scratch: Path) -> str:
    """Write a table in memory as a Parquet file, and return its path."""
    path = scratch / "frame.parquet"
    try:
        of_pandas = hasattr(frame, "iloc")  # and without its index
        table = pa.Table.from_pandas(frame, preserve_index=False) if of_pandas else pa.table(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise AmzrecError(f"the {type(frame).__name__} cannot be read as a table ({one_line(error)})") from error
    pq.write_table(table.replace_schema_metadata(None), path)
    return str(path)
