"""Delimited text read line by line: fields, quotes, and the reason why a line is passed over or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis

from amzrec.reviews.engines.protocol import Column, Engine, Table
from amzrec.reviews.relation import BLANK, BROKEN, ODD, RAGGED, UNBALANCED, added_by_reader
from amzrec.reviews.sources.shape import Shape


def constants(columns: dict[str, str], shape: Shape) -> dict[str, Column]:
    """Return those of our columns that the folders of the file name."""
    return {
        ours: ibis.literal(shape.constants[theirs], "string")
        for ours, theirs in columns.items()
        if theirs in shape.constants
    }


def positions(shape: Shape, columns: dict[str, str]) -> dict[str, int]:
    """Return where in a line each of our columns stands, from 0."""
    return {ours: shape.columns.index(t) for ours, t in columns.items() if t not in shape.constants}


def delimited(engine: Engine, path: Path, shape: Shape, columns: dict[str, str]) -> Table:
    """Read a delimited text file line by line; BROKEN where a line has another number of fields than the first.

    BROKEN is BLANK where a line has nothing but delimiters. ODD says of quoted files which lines have an odd number of
    quotes: there, text may go over the line's end.
    """
    table = engine.read_lines(path, bool(shape.names))
    parts = split_quoted(table.line, shape.delimiter) if shape.quoted else table.line.split(shape.delimiter)
    table = table.mutate(fields=parts)
    values = {ours: table.fields[i] for ours, i in positions(shape, columns).items()}
    wide = table.fields.length() == shape.width
    table = table.select("line", **values, **added_by_reader(table), wide=wide)
    nothing = ibis.cases(
        (table.line.startswith(shape.delimiter), table.line.replace(shape.delimiter, "").strip() == ""), else_=False
    )
    reasons = [(nothing, BLANK), (~table.wide, RAGGED)]
    if shape.quoted:
        open_quote = ibis.or_(*(table[ours].strip().startswith('"') & ~wrapped(table[ours].strip()) for ours in values))
        reasons.append((table.line.contains('"') & open_quote, UNBALANCED))
    table = with_reason(table, reasons)
    if shape.quoted:
        quotes = table.line.length() - table.line.replace('"', "").length()
        odd = ibis.cases((table.line.contains('"'), quotes % 2 == 1), else_=False)
        table = table.mutate(**{ours: unquoted(table[ours]) for ours in values}, **{ODD: odd})
    return table.select(*values, **constants(columns, shape), **added_by_reader(table))


def with_reason(table: Table, reasons: list[tuple[Column, str]]) -> Table:
    """Fill BROKEN with the first reason whose condition holds, where the reader has not already."""
    before = [(table[BROKEN].notnull(), table[BROKEN])] if BROKEN in table.columns else []
    return table.mutate(**{BROKEN: ibis.cases(*before, *reasons, else_=ibis.null().cast("string"))})


def all_blank(table: Table, shape: Shape) -> Column:
    """Return whether a record has nothing in any of its fields."""
    names = list(shape.columns)[: shape.width]
    return ibis.and_(*(table[name].isnull() | (table[name].strip() == "") for name in names))


def _extract_all(text: str, pattern: str, group: int) -> list[str]:  # type: ignore[empty-body]
    """Return all matches of a group: DuckDB and Spark have it under this name and with these arguments."""


extract_all: Any = ibis.udf.scalar.builtin(_extract_all, name="regexp_extract_all")


def split_quoted(line: Column, delimiter: str) -> Column:
    """Split a line of CSV into fields, quotes kept; quoted text may hold the delimiter and doubled quotes."""
    one = f"\\{delimiter}" if not delimiter.isalnum() else delimiter
    pattern = rf'( *"(?:[^"]|"")*" *|[^{one}]*){one}'
    return ibis.cases(
        (line.contains('"'), extract_all(line.concat(delimiter), pattern, 1)), else_=line.split(delimiter)
    )


def wrapped(field: Column) -> Column:
    """Return whether a field of CSV stands in quotes."""
    return field.startswith('"') & field.endswith('"') & (field.length() > 1)


def unquoted(field: Column) -> Column:
    """Return a field of CSV without its quotes, and without blanks outside of them."""
    field = field.strip()
    return ibis.cases((wrapped(field), field[1 : field.length() - 1].replace('""', '"')), else_=field)
