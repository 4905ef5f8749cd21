"""What every source becomes: relations of reviews as text, and what the source knows of products and customers."""

from __future__ import annotations

import dataclasses
import gzip
import zlib
from pathlib import Path
from typing import Any

from amzrec.errors import AmzrecError

# What a relation of reviews may hold; customer_id and product_id always
RAW = ("customer_id", "product_id", "product_parent", "product_title", "category", "stars", "timestamp")
BROKEN = "broken"  # one more column of some relations: why the line could not be read, else null
PLACE, LINE = "amzrec:place", "amzrec:line"  # where a row stands and its text, of readers that tell (Spark)
RAGGED = "not the number of fields of the header"
NOT_UTF8 = "not UTF-8"
NOT_JSON = "no JSON object"
BAD_RECORD = "quotes or number of fields do not fit"

NO_DELIMITER = "\x01"  # stands in no text file
GZIP = b"\x1f\x8b"

Facts = dict[str, tuple[str | None, list[str]]]  # id → (title or None, features as "name=value")


@dataclasses.dataclass(frozen=True)
class Part:
    """The reviews of one file.

    Row i of `reviews`, or `in_order`, read in order, is the i-th non-blank line after `header` lines.
    """

    file: Path
    reviews: Any  # Ibis table of RAW columns as text or numbers, perhaps with BROKEN
    header: int = 0
    lines: bool = True  # False: the file has no lines of text (Parquet), row i is its row i
    in_order: Any = None  # the same rows from a slower reader that keeps their order, where `reviews` does not
    json: bool = False  # JSON lines: a line that is not UTF-8 is a row too (a broken one)


@dataclasses.dataclass(frozen=True)
class Source:
    """A source, opened: nothing but its first lines is read before the expressions run."""

    name: str  # as the person gave it
    format: str  # as --format takes it
    columns: dict[str, str]  # our column → the source's
    parts: tuple[Part, ...]
    scale: tuple[float, float] | None = None  # lowest and highest stars the layout allows; None: read from the data
    clicks: bool = False  # whether an empty stars field is a click (True) or a mistake (False)
    products: Facts = dataclasses.field(default_factory=dict)  # by product_id
    customers: Facts = dataclasses.field(default_factory=dict)  # by customer_id
    notes: tuple[str, ...] = ()  # what to tell the person: sentences

    @property
    def has(self) -> tuple[str, ...]:
        """The columns of RAW that the source has."""
        return tuple(name for name in RAW if name in self.parts[0].reviews.columns)


def read_lines(con: Any, path: Path, header: bool) -> Any:
    """A plain or gzip text file as an Ibis table of its non-blank lines after the header, in a text column `line`.

    Lines that are not UTF-8 are left out and land in the engine's table `reject_errors`; on Spark they are BROKEN.
    """
    if con.name == "pyspark":
        return con.read_lines(path, header)
    return con.read_csv(
        str(path),
        delim=NO_DELIMITER,
        quote="",
        escape="",
        header=header,
        auto_detect=False,
        columns={"line": "VARCHAR"},
        skip=blank_lines(path),
        nullstr="\x02\x03",
        strict_mode=False,
        compression="gzip" if is_gzip(path) else "none",
        store_rejects=True,
    )


def read_records(con: Any, path: Path, names: list[str], delimiter: str, header: int) -> Any:
    """A CSV file whose quoted text goes over line ends, as an Ibis table of text columns.

    What does not fit together lands in the engine's table `reject_errors`; on Spark it is BROKEN.
    """
    if con.name == "pyspark":
        return con.read_records(path, names, delimiter, bool(header))
    return con.read_csv(
        str(path),
        delim=delimiter,
        quote='"',
        escape='"',
        header=bool(header),
        auto_detect=False,
        columns=dict.fromkeys(names, "VARCHAR"),
        nullstr="\x02\x03",
        compression="gzip" if is_gzip(path) else "none",
        store_rejects=True,
    )


def told(table: Any) -> dict[str, Any]:
    """What the reader of a table tells of its rows: BROKEN, PLACE, LINE, where it does."""
    return {name: table[name] for name in (BROKEN, PLACE, LINE) if name in table.columns}


def is_gzip(path: Path) -> bool:
    """Whether the file starts as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def open_bytes(path: Path) -> Any:
    """A plain or gzip file, opened for reading bytes."""
    return gzip.open(path, "rb") if is_gzip(path) else path.open("rb")


def blank_lines(path: Path) -> int:
    """How many blank lines stand before the first other one."""
    with open_bytes(path) as file:
        return next((number for number, line in enumerate(file) if line.strip(b"\r\n\xef\xbb\xbf")), 0)


def check_gzip(path: Path) -> None:
    """Raise AmzrecError where a gzip file is damaged or cut short (the engine would read the part that is there)."""
    if is_gzip(path):
        try:
            with gzip.open(path, "rb") as file:
                while file.read(1 << 22):
                    pass
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise AmzrecError(f"{path} is a gzip file cut short or damaged ({error}): download it again") from error


def first_lines(path: Path, count: int = 200) -> list[str]:
    """The first non-blank lines of a plain or gzip text file, without line ends; bad UTF-8 replaced."""
    try:
        with open_bytes(path) as file:
            block = file.read(1 << 18)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise AmzrecError(f"{path} is a gzip file cut short or damaged ({error}): download it again") from error
    lines = block.decode("utf-8-sig", "replace").splitlines()
    if len(block) == 1 << 18 and len(lines) > 1:
        lines.pop()  # the last one is cut
    return [line for line in lines if line.strip()][:count]


def fingerprint(files: list[Path]) -> str:
    """16 hex digits of names, sizes and content; of files above 64 MB, 64 blocks of 1 MB spread over the file."""
    crc, total = 0, 0
    for path in files:
        size = path.stat().st_size
        crc = zlib.crc32(f"{path.name}:{size}".encode(), crc)
        total += size
        step = 1 << 20 if size <= 64 << 20 else size // 64
        with path.open("rb") as file:
            for start in range(0, size, step):
                file.seek(start)
                crc = zlib.crc32(file.read(1 << 20), crc)
    return f"{crc:08x}{total & 0xFFFFFFFF:08x}"
