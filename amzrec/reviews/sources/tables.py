"""Tables: CSV, TSV and other delimited text, JSON lines, Parquet, with the columns that a person or a layout names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Column, Engine, Table
from amzrec.reviews.relation import BROKEN, RAGGED, UNBALANCED, Part, Source, added_by_reader
from amzrec.reviews.sources import blocks, layouts, ratings
from amzrec.reviews.sources.columns import example, guessed_columns, named_columns, without_header
from amzrec.reviews.sources.shape import KINDS, Shape, shape_of


def open_tables(engine: Engine, name: str, files: tuple[Path, ...], config: PrepareConfig) -> Source:
    """Open files as one table; raises AmzrecError where nothing tells which column is which."""
    path, *others = files
    shape = shape_of(path)
    if config.columns:
        shape = without_header(shape, config.columns)
    opened = open_columns(name, config, shape, path)
    shapes = [shape, *(like_the_first(other, shape, opened.columns, path) for other in others)]
    parts = (read_table(engine, p, s, opened.columns) for p, s in zip(files, shapes, strict=True))
    return opened.with_parts(tuple(parts))


def open_columns(name: str, config: PrepareConfig, shape: Shape, path: Path | str) -> Source:
    """Return a source, still without parts, with the columns of --columns, of a known layout, or named what they are.

    Raises AmzrecError where nothing tells which column is which.
    """
    if config.columns:
        return Source(name, "table", named_columns(config.columns, shape, path), (), clicks=True)
    return known_layout(name, config.format, shape, path) or guessed(name, shape)


def known_layout(name: str, format: str | None, shape: Shape, path: Path | str) -> Source | None:
    """Return a source, still without parts, of the layout that --format, the column names or the ids tell."""
    layout = layouts.named(format) if format else layouts.layout_of(shape.names)
    if layout:
        columns = layouts.columns_of(layout, shape.names, path)
        return Source(name, layout.name, columns, (), layout.scale, layout.clicks)
    by_position = format if format in ratings.FORMATS else ratings.format_of(path, shape)
    if by_position:
        notes = () if format else (ratings.note(by_position, path),)
        return Source(name, by_position, ratings.columns_of(by_position, shape, path), (), ratings.SCALE, notes=notes)
    return None


def guessed(name: str, shape: Shape) -> Source:
    """Return a source, still without parts, whose column names say what they are; AmzrecError where they do not."""
    columns = guessed_columns(shape.names)
    if "customer_id" not in columns or "product_id" not in columns:
        from amzrec.reviews.sources import FORMATS  # all layouts, this one too

        names = f"the columns {', '.join(shape.names)}" if shape.names else f"{shape.width} columns without a header"
        raise AmzrecError(
            f"{name} has no known layout: it is {KINDS[shape.kind]} with {names}. Say which column is "
            f"which, such as --columns {example(shape)}, or its --format: {', '.join(FORMATS)}"
        )
    return Source(name, "table", columns, (), clicks=True)


def like_the_first(path: Path, first: Shape, columns: dict[str, str], first_path: Path) -> Shape:
    """Return the shape of one more file of a table; raises AmzrecError where it has not the columns of the first."""
    shape = shape_of(path)
    missing = [theirs for theirs in columns.values() if theirs not in shape.columns]
    if shape.kind != first.kind or missing or bool(shape.names) != bool(first.names):
        what = f"no column {missing[0]!r}" if missing else f"{KINDS[shape.kind]}, with other columns"
        raise AmzrecError(f"{path} is not of the kind of {first_path} ({what}): name files of one kind, or one file")
    return shape


def read_table(engine: Engine, path: Path, shape: Shape, columns: dict[str, str]) -> Part:
    """Return the named columns of a table file as a part: our names, every value the text it was."""
    if shape.kind == "parquet":
        return Part(path, renamed(engine.read_parquet(path), columns), lines=False)
    if shape.kind == "jsonl":
        return Part(path, renamed(engine.read_objects(path, sorted(set(columns.values()))), columns), json=True)
    header = int(bool(shape.names))
    if shape.spanning:
        table = engine.read_records(path, shape.columns, shape.delimiter, bool(header))
        return Part(path, renamed(table, columns), header, lines=False)
    by_line = delimited(engine, path, shape, columns)
    if path.stat().st_size < blocks.LARGE or shape.quoted or len(shape.delimiter) > 1:
        return Part(path, by_line, header)
    stream = blocks.Blocks(path, shape.delimiter, shape.width, bool(header), positions(shape, columns))
    in_blocks = engine.scan(stream)
    return Part(path, by_line, header) if in_blocks is None else Part(path, in_blocks, header, in_order=by_line)


def renamed(table: Table, columns: dict[str, str]) -> Table:
    """Return our columns of a table that has theirs, and what the reader added."""
    return table.select(**{ours: table[theirs] for ours, theirs in columns.items()}, **added_by_reader(table))


def positions(shape: Shape, columns: dict[str, str]) -> dict[str, int]:
    """Return where in a line each of our columns stands, from 0."""
    return {ours: shape.columns.index(theirs) for ours, theirs in columns.items()}


def delimited(engine: Engine, path: Path, shape: Shape, columns: dict[str, str]) -> Table:
    """Read a delimited text file line by line; BROKEN where a line has another number of fields than the first."""
    table = engine.read_lines(path, bool(shape.names))
    parts = split_quoted(table.line, shape.delimiter) if shape.quoted else table.line.split(shape.delimiter)
    table = table.mutate(fields=parts)
    values = {ours: table.fields[i] for ours, i in positions(shape, columns).items()}
    wide = table.fields.length() == shape.width
    if not shape.quoted:
        table = table.select(**values, **added_by_reader(table), wide=wide)
        return with_reason(table, [(~table.wide, RAGGED)]).drop("wide")
    table = table.select("line", **values, **added_by_reader(table), wide=wide)
    open_quote = ibis.or_(*(table[ours].startswith('"') & ~wrapped(table[ours]) for ours in values))
    table = with_reason(table, [(~table.wide, RAGGED), (table.line.contains('"') & open_quote, UNBALANCED)])
    return table.select(**{ours: unquoted(table[ours]) for ours in values}, **added_by_reader(table))


def with_reason(table: Table, reasons: list[tuple[Column, str]]) -> Table:
    """Fill BROKEN with the first reason whose condition holds, where the reader has not already."""
    before = [(table[BROKEN].notnull(), table[BROKEN])] if BROKEN in table.columns else []
    return table.mutate(**{BROKEN: ibis.cases(*before, *reasons, else_=ibis.null().cast("string"))})


def _extract_all(text: str, pattern: str, group: int) -> list[str]:  # type: ignore[empty-body]
    """Return all matches of a group: DuckDB and Spark have it under this name and with these arguments."""


extract_all: Any = ibis.udf.scalar.builtin(_extract_all, name="regexp_extract_all")


def split_quoted(line: Column, delimiter: str) -> Column:
    """Split a line of CSV into fields, quotes kept; quoted text may hold the delimiter and doubled quotes."""
    pattern = rf'("(?:[^"]|"")*"|[^{delimiter}]*){delimiter}'
    return ibis.cases(
        (line.contains('"'), extract_all(line.concat(delimiter), pattern, 1)), else_=line.split(delimiter)
    )


def wrapped(field: Column) -> Column:
    """Return whether a field of CSV stands in quotes."""
    return field.startswith('"') & field.endswith('"') & (field.length() > 1)


def unquoted(field: Column) -> Column:
    """Return a field of CSV without its quotes."""
    return ibis.cases((wrapped(field), field[1 : field.length() - 1].replace('""', '"')), else_=field)
