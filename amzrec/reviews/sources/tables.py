"""Tables: CSV, TSV and other delimited text, JSON lines, Parquet, with the columns that a person or a layout names."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.errors import AmzrecError
from amzrec.reviews.engines import engine
from amzrec.reviews.sources import blocks
from amzrec.reviews.sources.relation import (
    BROKEN,
    NOT_JSON,
    RAGGED,
    RAW,
    Part,
    first_lines,
    is_gzip,
    read_lines,
    read_records,
    told,
)

DELIMITERS = ("\t", "::", ";", "|", ",")
OURS = {  # the names that --columns takes
    "customer": "customer_id",
    "product": "product_id",
    "parent": "product_parent",
    "title": "product_title",
    "category": "category",
    "stars": "stars",
    "timestamp": "timestamp",
}
# Names that columns have in files people have, in lower case without separators, the best first
SYNONYMS = {
    "customer_id": ("customerid", "userid", "reviewerid", "customer", "user", "reviewer", "uid", "profileid"),
    "product_id": ("productid", "itemid", "asin", "movieid", "product", "item", "iid", "bookid", "isbn", "sku"),
    "product_parent": ("productparent", "parentasin"),
    "product_title": ("producttitle", "itemtitle", "movietitle", "productname", "itemname"),
    "category": ("productcategory", "category", "maincategory", "itemcategory"),
    "stars": ("starrating", "stars", "rating", "overall", "score", "userrating"),
    "timestamp": ("timestamp", "unixreviewtime", "unixtime", "time", "reviewdate", "reviewtime", "date"),
}
UNBALANCED = "unbalanced quotes"
KINDS = {"csv": "delimited text", "jsonl": "JSON lines", "parquet": "Parquet", "tensorflow": "a saved dataset"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """How a table file is written: kind csv | jsonl | parquet, its column names or width, delimiter, header."""

    kind: str
    names: list[str]  # [] where the file has no header
    width: int = 0
    delimiter: str = ""
    quoted: bool = False  # whether a quote character groups text
    spanning: bool = False  # whether quoted text goes over line ends


def shape(path: Path) -> Shape:
    """The shape of a file, from its first lines; raises AmzrecError where it is empty or no table."""
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
    """The keys of the JSON objects in these lines, in order of appearance."""
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
    """The delimiter that splits the first lines most evenly, and whether the first one is a header."""
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
    """The share of lines with as many fields as the first one, and that of records whose quotes go over line ends."""
    widths = [len(fields(line, delimiter)) for line in lines]
    if widths[0] < 2:
        return 0.0, 0.0
    by_line = sum(width == widths[0] for width in widths) / len(widths)
    if len(delimiter) > 1 or all(line.count('"') % 2 == 0 for line in lines):
        return by_line, 0.0
    records = [len(record) for record in csv.reader((line + "\n" for line in lines), delimiter=delimiter)]
    return by_line, sum(width == records[0] for width in records) / len(records)


def fields(line: str, delimiter: str) -> list[str]:
    """One line, split; quotes group text unless the line is tab-separated with stray quotes."""
    if len(delimiter) > 1 or '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return line.split(delimiter)


def number_like(field: str) -> bool:
    """Whether a field is a number, hence no column name."""
    try:
        float(field.strip().strip('"'))
    except ValueError:
        return False
    return True


def plain(name: str) -> str:
    """A column name in lower case without separators: `star_rating`, `Star Rating` → `starrating`."""
    return "".join(c for c in name.lower() if c.isalnum())


def named_columns(text: str, found: Shape, path: Path) -> dict[str, str]:
    """`customer=UserId,product=ItemId,stars=rating` → our column: the file's column (a number counts from 0).

    Raises AmzrecError for a name the file does not have (with the nearest one), or where customer or product lacks.
    """
    columns: dict[str, str] = {}
    for pair in text.split(","):
        ours, equals, theirs = (piece.strip() for piece in pair.partition("="))
        if not equals or ours not in OURS:
            raise AmzrecError(
                f"--columns has {pair!r}; write {'|'.join(OURS)}=COLUMN with commas between, "
                "such as customer=UserId,product=ItemId,stars=rating"
            )
        names = found.names or [str(i) for i in range(found.width)]
        if theirs not in names and theirs.isdigit() and found.names and int(theirs) < len(found.names):
            theirs = found.names[int(theirs)]
        if theirs not in names:
            near = difflib.get_close_matches(theirs, names, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            what = "columns" if found.names else "columns, numbered for want of a header"
            raise AmzrecError(
                f"--columns names {theirs!r}, which {path} does not have{hint} Its {what}: {', '.join(names)}"
            )
        columns[OURS[ours]] = theirs
    for ours in ("customer", "product"):
        if OURS[ours] not in columns:
            raise AmzrecError(f"--columns {text} names no {ours}: add {ours}=COLUMN")
    return columns


def without_header(found: Shape, text: str) -> Shape:
    """The shape under --columns of numbers only: the first line is a review too, unless its names are known ones."""
    numbers = [pair.partition("=")[2].strip() for pair in text.split(",")]
    if not found.names or len(guessed_columns(found.names)) > 1 or not all(n.isdigit() for n in numbers):
        return found
    return dataclasses.replace(found, names=[])


def guessed_columns(names: list[str]) -> dict[str, str]:
    """Our columns, where the file's names say what they are; parent_asin alone is a product id."""
    by_plain = {plain(name): name for name in reversed(names)}
    columns = {}
    for ours, synonyms in SYNONYMS.items():
        for synonym in synonyms:
            if synonym in by_plain:
                columns[ours] = by_plain[synonym]
                break
    if "product_id" not in columns and "product_parent" in columns:
        columns["product_id"] = columns.pop("product_parent")
    return in_order(columns)


def in_order(columns: dict[str, str]) -> dict[str, str]:
    """Columns in the order of RAW."""
    return {ours: columns[ours] for ours in RAW if ours in columns}


def same_shape(path: Path, first: Shape, columns: dict[str, str], of: Path) -> Shape:
    """The shape of one more file of a table; raises AmzrecError where it has not the columns of the first."""
    found = shape(path)
    names = found.names or [str(i) for i in range(found.width)]
    missing = [theirs for theirs in columns.values() if theirs not in names]
    if found.kind != first.kind or missing or bool(found.names) != bool(first.names):
        what = f"no column {missing[0]!r}" if missing else f"{KINDS[found.kind]}, with other columns"
        raise AmzrecError(f"{path} is not of the kind of {of} ({what}): name files of one kind, or one file")
    return found


def read_table(con: Any, path: Path, found: Shape, columns: dict[str, str]) -> Part:
    """The named columns of a table file as a part: our names, every value the text it was."""
    if found.kind == "parquet":
        table = con.read_parquet(str(path))
        return Part(path, table.select(**{o: table[t] for o, t in columns.items()}, **told(table)), lines=False)
    if found.kind == "jsonl":
        return Part(path, json_lines(con, path, columns), json=True)
    header = 1 if found.names else 0
    if found.spanning:
        table = read_records(con, path, found.names or [str(i) for i in range(found.width)], found.delimiter, header)
        return Part(path, table.select(**{o: table[t] for o, t in columns.items()}, **told(table)), header, lines=False)
    by_line = delimited(con, path, found, columns)
    small = path.stat().st_size < blocks.LARGE
    if small or con.name != "duckdb" or found.quoted or len(found.delimiter) > 1:
        return Part(path, by_line, header)
    stream = blocks.Blocks(path, found.delimiter, found.width, bool(found.names), places(found, columns))
    return Part(path, engine.streamed(con, stream), header, in_order=by_line)


def json_lines(con: Any, path: Path, columns: dict[str, str]) -> Any:
    """The named keys of JSON lines; BROKEN where a line is no object or has none of them."""
    wanted = sorted(set(columns.values()))
    if con.name == "pyspark":
        table = con.read_objects(path, wanted)
        return table.select(**{ours: table[theirs] for ours, theirs in columns.items()}, **told(table))
    types = dict.fromkeys(wanted, "VARCHAR")
    packing = "gzip" if is_gzip(path) else "uncompressed"
    table = con.read_json(str(path), columns=types, format="newline_delimited", ignore_errors=True, compression=packing)
    nothing = ibis.and_(*(table[name].isnull() for name in wanted))
    broken = ibis.cases((nothing, NOT_JSON), else_=ibis.null().cast("string"))
    return table.select(**{ours: table[theirs] for ours, theirs in columns.items()}, **{BROKEN: broken})


def places(found: Shape, columns: dict[str, str]) -> dict[str, int]:
    """Our columns → the places of theirs in a line."""
    return {ours: found.names.index(theirs) if found.names else int(theirs) for ours, theirs in columns.items()}


def delimited(con: Any, path: Path, found: Shape, columns: dict[str, str]) -> Any:
    """The named columns of a delimited text file; BROKEN where a line has another number of fields than the first."""
    table = read_lines(con, path, bool(found.names))
    whole = split_quoted(table.line, found.delimiter) if found.quoted else table.line.split(found.delimiter)
    table = table.mutate(fields=whole)
    right = table.fields.length() == found.width
    values = {ours: table.fields[i] for ours, i in places(found, columns).items()}
    of = told(table)
    before = [(of[BROKEN].notnull(), of[BROKEN])] if BROKEN in of else []
    if not found.quoted:
        broken = ibis.cases(*before, (~right, RAGGED), else_=ibis.null().cast("string"))
        return table.select(**values, **of | {BROKEN: broken})
    table = table.select("line", right=right, **values, **of)
    of = told(table)
    before = [(of[BROKEN].notnull(), of[BROKEN])] if BROKEN in of else []
    open_quote = ibis.or_(*(table[ours].startswith('"') & ~wrapped(table[ours]) for ours in values))
    broken = ibis.cases(
        *before,
        (~table.right, RAGGED),
        (table.line.contains('"') & open_quote, UNBALANCED),
        else_=ibis.null().cast("string"),
    )
    return table.select(**{ours: unquoted(table[ours]) for ours in values}, **of | {BROKEN: broken})


def _extract_all(text: str, pattern: str, group: int) -> list[str]:  # type: ignore[empty-body]
    """All matches of a group: DuckDB and Spark have it under this name and with these arguments."""


extract_all: Any = ibis.udf.scalar.builtin(_extract_all, name="regexp_extract_all")


def split_quoted(line: Any, delimiter: str) -> Any:
    """A line of CSV as a list of fields, quotes kept; quoted text may hold the delimiter and doubled quotes."""
    pattern = rf'("(?:[^"]|"")*"|[^{delimiter}]*){delimiter}'
    return ibis.cases(
        (line.contains('"'), extract_all(line.concat(delimiter), pattern, 1)), else_=line.split(delimiter)
    )


def wrapped(field: Any) -> Any:
    """Whether a field of CSV stands in quotes."""
    return field.startswith('"') & field.endswith('"') & (field.length() > 1)


def unquoted(field: Any) -> Any:
    """A field of CSV without its quotes."""
    return ibis.cases((wrapped(field), field[1 : field.length() - 1].replace('""', '"')), else_=field)


def example(found: Shape) -> str:
    """A --columns value for this file, to copy and mend."""
    names = found.names or [str(i) for i in range(found.width)]
    return ",".join(f"{ours}={name}" for ours, name in zip(("customer", "product", "stars"), names, strict=False))
