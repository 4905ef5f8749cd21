"""How a table file is written, found from its first lines: kind, column names, delimiter, header, quotes."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.errors import AmzrecError, one_line
from amzrec.reviews.textfile import first_lines

DELIMITERS = ("\t", "::", ";", "|", ",", "^", "~")
BLANKS = "blanks"  # runs of blanks, which `sources/plain.py` makes tabs
QUOTING = ",;"  # delimiters of files whose quotes group text
RECORD, LIST = "a record", "a list"  # what a column may hold instead of one value
DEEPEST = 8  # records within records that are looked into
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
    paths: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # of names in records: their keys
    nested: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # columns that hold no single value → what they are
    constants: dict[str, str | None] = dataclasses.field(
        default_factory=dict
    )  # columns that the folders of a file name

    @property
    def columns(self) -> list[str]:
        """The names of the columns, or their numbers from 0 where there is no header."""
        return [*(self.names or [str(number) for number in range(self.width)]), *self.constants]


class NoRows(AmzrecError):
    """A file holds nothing at all."""


def shape_of(path: Path, name: str = "", delimiter: str | None = None, spanning: bool = False) -> Shape:
    """Find the shape of a file that `sources/plain.py` made plain; `name` is what errors call it.

    `delimiter` and `spanning` are known already, or found from the first lines. Raises NoRows where the file is empty,
    and AmzrecError where it is no table.
    """
    name = name or str(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return parquet_shape(path, name)
    lines = first_lines(path)
    if not lines:
        raise NoRows(f"{name} is empty: name a file with reviews in it")
    if lines[0].lstrip().startswith("{"):
        return json_shape(name, lines)
    return delimited_shape(name, lines, "\t" if delimiter == BLANKS else delimiter, spanning)


def parquet_shape(path: Path, name: str) -> Shape:
    """Return the columns of a Parquet file, those in records by their paths, such as user.id."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise AmzrecError(f"{name} is a damaged Parquet file ({one_line(error)}): download it again") from error
    paths: dict[str, tuple[str, ...]] = {}
    nested: dict[str, str] = {}

    def visit(field: pa.Field, above: tuple[str, ...]) -> None:
        path = (*above, field.name)
        if pa.types.is_struct(field.type):
            nested[".".join(path)] = RECORD
            for inner in field.type:
                visit(inner, path)
            return
        if pa.types.is_nested(field.type):
            nested[".".join(path)] = LIST
        paths.setdefault(".".join(path), path)

    for field in schema:
        visit(field, ())
    return Shape("parquet", [*paths], paths=paths, nested=nested)


def json_shape(name: str, lines: list[str]) -> Shape:
    """Return the keys of the JSON objects in these lines, in order of appearance, those in objects by their paths."""
    paths: dict[str, tuple[str, ...]] = {}
    nested: dict[str, str] = {}

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict) and path and len(path) < DEEPEST:
            nested[".".join(path)] = RECORD
        elif path:
            if isinstance(value, list):
                nested[".".join(path)] = LIST
            paths.setdefault(".".join(path), path)
            return
        for key, inner in value.items():
            visit(inner, (*path, key))

    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            visit(value, ())
    if not paths:
        raise AmzrecError(
            f"{name} starts like JSON, but none of its first {len(lines)} lines is one JSON object. "
            "JSON is read as one object per line, as an array of objects, or as objects that follow one another"
        )
    if len(lines) == 1 and len(paths) > 1 and all(len(path) > 1 or name in nested for name, path in paths.items()):
        raise AmzrecError(
            f"{name} is one JSON object of columns or groups, not one object per review. Write the reviews one by one, "
            "such as in Python: pandas.read_json(FILE).to_json('reviews.jsonl', orient='records', lines=True)"
        )
    top = {path[0] for path in paths.values()}
    return Shape(
        "jsonl", [*paths], paths={n: p for n, p in paths.items() if len(p) == 1 or n not in top}, nested=nested
    )


def delimited_shape(name: str, lines: list[str], wanted: str | None, spanning: bool) -> Shape:
    """Choose the delimiter that splits these lines most evenly, and see whether the first one is a header."""
    choices = (wanted,) if wanted else DELIMITERS
    shares = {delimiter: evenness(lines, delimiter) for delimiter in choices}
    delimiter = max(choices, key=lambda d: max(shares[d]))
    by_line, by_record = shares[delimiter]
    if max(by_line, by_record) < 0.5:
        raise AmzrecError(
            f"{name} is no table: its first line {lines[0][:80]!r} is not split like those after it by a comma, tab, "
            "semicolon, |, :: or blanks. Tables are CSV, TSV, JSON and Parquet; --delimiter names another character"
        )
    head = fields(lines[0], delimiter)
    names = [] if any(number_like(field) for field in head) else [name.strip().lstrip("#").strip() for name in head]
    tab_without_quotes = delimiter == "\t" and not any(f'"{name}"' in lines[0] for name in head)
    spanning = spanning or (by_record > by_line and (delimiter in QUOTING or not tab_without_quotes))
    quoted = spanning or (len(delimiter) == 1 and delimiter != "|" and not tab_without_quotes)
    return Shape("csv", names, len(head), delimiter, quoted, spanning)


def is_blank_separated(lines: list[str]) -> bool:
    """Return whether runs of blanks part these lines into equally many fields, and nothing else does."""
    widths = {len(line.split()) for line in lines}
    if len(widths) != 1 or max(widths) < 2 or any(max(evenness(lines, d)) >= 0.5 for d in DELIMITERS):
        return False
    numbers = [number_like(field) for field in lines[-1].split()]
    return len(lines) > 1 and (any(numbers) if len(numbers) > 2 else all(numbers))


def same_width(one: str, other: str) -> bool:
    """Return whether some delimiter parts two lines into equally many fields, two at least."""
    return any(1 < len(fields(one, d)) == len(fields(other, d)) for d in DELIMITERS)


def evenness(lines: list[str], delimiter: str) -> tuple[float, float]:
    """Return the share of lines as wide as the first one, and of records whose quoted text may go over line ends."""
    widths = [len(fields(line, delimiter)) for line in lines]
    if widths[0] < 2:
        return 0.0, 0.0
    by_line = sum(width == widths[0] for width in widths) / len(widths)
    if len(delimiter) > 1 or all(line.count('"') % 2 == 0 for line in lines):
        return by_line, 0.0
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=delimiter in QUOTING)
    try:
        records = [len(record) for record in reader]
    except csv.Error:  # bytes that are no text
        return by_line, 0.0
    return by_line, sum(width == records[0] for width in records) / len(records)


def fields(line: str, delimiter: str) -> list[str]:
    """Split one line; quotes group text unless they do not fit together, as stray ones in a tab-separated line."""
    if len(delimiter) > 1 or '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=delimiter in QUOTING))
    except (csv.Error, StopIteration):
        return line.split(delimiter)


def number_like(field: str) -> bool:
    """Return whether a field is a number, hence no column name."""
    try:
        float(field.strip().strip('"'))
    except ValueError:
        return False
    return True
