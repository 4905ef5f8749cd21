"""What every source becomes: one relation of reviews as text, and what the source knows of products and customers."""

from __future__ import annotations

import dataclasses
import gzip
import zlib
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from amzrec.errors import AmzrecError

RAW = ("customer_id", "product_id", "product_parent", "product_title", "category", "stars", "timestamp")

Facts = dict[str, tuple[str | None, list[str]]]  # id → (title or None, features as "name=value")


@dataclasses.dataclass
class Source:
    """A source, opened: nothing is read before the expressions run.

    `reviews` holds those columns of RAW that the source has (customer_id and product_id always), as text or numbers.
    """

    name: str  # as the person gave it
    format: str  # as --format takes it
    columns: dict[str, str]  # our column → the source's
    reviews: Any  # ibis table
    scale: tuple[float, float] | None = None  # lowest and highest stars the layout allows; None: read from the data
    clicks: bool = False  # whether an empty stars field is a click (True) or a mistake (False)
    products: Facts = dataclasses.field(default_factory=dict)  # by product_id
    customers: Facts = dataclasses.field(default_factory=dict)  # by customer_id
    files: tuple[Path, ...] = ()


def read_delimited(con: Any, path: Path, names: list[str], delim: str, quote: str = "", header: bool = True) -> Any:
    """A delimited text file as an Ibis table of text columns `names`; every field stays the text it was.

    Lines that do not have len(names) fields, or are not UTF-8, land in the DuckDB table `reader_rejects`.
    """
    return con.read_csv(
        str(path),
        delim=delim,
        quote=quote,
        escape=quote,
        header=header,
        auto_detect=False,
        columns=dict.fromkeys(names, "VARCHAR"),
        nullstr="\x01",
        compression="gzip" if is_gzip(path) else "none",
        store_rejects=True,
        rejects_table="reader_rejects",
        rejects_scan="reader_scans",
    )


def is_gzip(path: Path) -> bool:
    """Whether the file starts as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def first_lines(path: Path, count: int = 20) -> list[str]:
    """The first lines of a plain or gzip text file, without line ends; bad UTF-8 replaced."""
    try:
        with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as file:
            text = file.read(1 << 18).decode("utf-8-sig", "replace")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise AmzrecError(f"{path} is a damaged gzip file ({error}): download it again") from error
    return [line.rstrip("\r") for line in text.split("\n")[:count]]


def fingerprint(files: tuple[Path, ...]) -> str:
    """16 hex digits of names, sizes and content; of files above 64 MB, 64 blocks of 1 MB spread over the file."""
    crc, total = 0, 0
    for path in files:
        size = path.stat().st_size
        crc = zlib.crc32(f"{path.name}:{size}".encode(), crc)
        total += size
        with path.open("rb") as file:
            blocks = 64
            for number in range(blocks):
                file.seek(number * max(size // blocks, 1) if size > 1 << 26 else number << 20)
                crc = zlib.crc32(file.read(1 << 20), crc)
    return f"{crc:08x}{total & 0xFFFFFFFF:08x}"


def memory_table(con: Any, name: str, table: pa.Table) -> Any:
    """An Arrow table as a table of the engine."""
    return con.create_table(name, ibis.memtable(table), temp=True, overwrite=True)
