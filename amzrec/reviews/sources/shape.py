"""How a table file is written, found from its first lines: kind, column names, delimiter, header, quotes."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.errors import AmzrecError
from amzrec.reviews.textfile import first_lines

DELIMITERS = ("\t", "::", ";", "|", ",")
KINDS = {
    "csv": "delimited text",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "tensorflow": "a saved dataset",
    "database": "a table",
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """How a table file is written."""

    kind: str  # see KINDS
    names: list[str]  # of its columns; [] where the file has no header
    width: int = 0  # number of columns
    delimiter: str = ""
    quoted: bool = False  # whether a quote character groups text
    spanning: bool = False  # whether quoted text goes over line ends

    @property
    def columns(self) -> list[str]:
        """The names of the columns, or their numbers from 0 where there is no header."""
        return self.names or [str(number) for number in range(self.width)]


def shape_of(path: Path) -> Shape:
    """Find the shape of a file; raises AmzrecError where it is empty or no table."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        try:
            return Shape("parquet", pq.read_schema(path).names)
        except (pa.ArrowException, OSError) as error:
            raise AmzrecError(f"{path} is a damaged Parquet file ({error}): download it again") from error
    lines = first_lines(path)
    if not lines:
        raise AmzrecError(f"{path} is empty: name a file with reviews in it")
    if lines[0].lstrip().startswith("{"):
        return Shape("jsonl", json_keys(path, lines))
    return delimited_shape(path, lines)


def json_keys(path: Path, lines: list[str]) -> list[str]:
    """Return the keys of the JSON objects in these lines, in order of appearance."""
    keys: dict[str, None] = {}
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            keys |= dict.fromkeys(value)
    if not keys:
        raise AmzrecError(
            f"{path} starts like JSON, but none of its first {len(lines)} lines is one JSON object. "
            "JSON lines are read: one object per line"
        )
    return list(keys)


def delimited_shape(path: Path, lines: list[str]) -> Shape:
    """Choose the delimiter that splits these lines most evenly, and see whether the first one is a header."""
    shares = {delimiter: evenness(lines, delimiter) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda d: max(shares[d]))
    by_line, by_record = shares[delimiter]
    if max(by_line, by_record) < 0.5:
        raise AmzrecError(
            f"{path} is no table: its first line {lines[0][:80]!r} is not split like those after it by a comma, "
            "tab, semicolon, | or ::. Tables are read as CSV, TSV, JSON lines and Parquet"
        )
    head = fields(lines[0], delimiter)
    names = [] if any(number_like(field) for field in head) else [name.strip() for name in head]
    tab_without_quotes = delimiter == "\t" and not any(f'"{name}"' in lines[0] for name in head)
    quoted = delimiter in ",;\t" and not tab_without_quotes
    return Shape("csv", names, len(head), delimiter, quoted, quoted and by_record > by_line)


def evenness(lines: list[str], delimiter: str) -> tuple[float, float]:
    """Return the share of lines as wide as the first one, and of records whose quoted text may go over line ends."""
    widths = [len(fields(line, delimiter)) for line in lines]
    if widths[0] < 2:
        return 0.0, 0.0
    by_line = sum(width == widths[0] for width in widths) / len(widths)
    if len(delimiter) > 1 or all(line.count('"') % 2 == 0 for line in lines):
        return by_line, 0.0
    records = [len(record) for record in csv.reader((line + "\n" for line in lines), delimiter=delimiter)]
    return by_line, sum(width == records[0] for width in records) / len(records)


def fields(line: str, delimiter: str) -> list[str]:
    """Split one line; quotes group text unless they do not fit together, as stray ones in a tab-separated line."""
    if len(delimiter) > 1 or '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return line.split(delimiter)


def number_like(field: str) -> bool:
    """Return whether a field is a number, hence no column name."""
    try:
        float(field.strip().strip('"'))
    except ValueError:
        return False
    return True
