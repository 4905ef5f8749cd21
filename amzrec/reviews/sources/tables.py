"""Tables: CSV, TSV and other delimited text, JSON, Parquet, with the columns that a person or a layout names."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import wholeids
from amzrec.reviews.engines.protocol import Column, Engine, Table
from amzrec.reviews.relation import BLANK, FIRST_TIMES, Facts, Part, Source, added_by_reader
from amzrec.reviews.sources import blocks, catalogue, folder, layouts, ratings, sample
from amzrec.reviews.sources.columns import (
    IDS,
    check_single,
    example,
    guessed_columns,
    listed,
    named_columns,
    rivals_of,
    without_header,
)
from amzrec.reviews.sources.delimited import all_blank, constants, delimited, positions, with_reason
from amzrec.reviews.sources.plain import TextFile, Writing, made_plain
from amzrec.reviews.sources.shape import KINDS, NoRows, Shape, shape_of
from amzrec.settings import pairs_text


class TableFile(NamedTuple):
    """One table, ready to be read."""

    file: TextFile
    shape: Shape


def open_tables(
    engine: Engine,
    name: str,
    files: tuple[TextFile, ...],
    config: PrepareConfig,
    scratch: Path,
    writings: Mapping[str, Writing],
) -> Source:
    """Open files as one table of reviews; `writings` says of files, by name, how they are written where that is known.

    Of several files those are taken that have reviews. Raises AmzrecError where nothing tells which column is which.
    """
    if not files:
        raise NoRows(f"{name} has nothing in it, or is damaged: name a file with reviews in it")
    tables, notes = plain_tables(files, config, scratch, writings)
    products: Facts = {}
    if len(tables) > 1:
        tables, products = chosen(name, tables, config, notes)
    first = tables[0]
    shape = without_header(first.shape, config.columns) if config.columns else first.shape
    opened = open_columns(name, config, shape, first.file.path, first.file.name)
    tables = [TableFile(first.file, shape), *(like_the_first(table, first, opened.columns) for table in tables[1:])]
    notes += more_to_say(first.file, shape, opened, config)
    parts = tuple(read_table(engine, table, opened.columns) for table in tables)
    return dataclasses.replace(opened, parts=parts, products=products, notes=(*opened.notes, *notes))


def plain_tables(
    files: tuple[TextFile, ...], config: PrepareConfig, scratch: Path, writings: Mapping[str, Writing]
) -> tuple[list[TableFile], list[str]]:
    """Return the files that are tables, and what to tell of them; an empty one beside others is passed over."""
    tables, notes, empty = list[TableFile](), list[str](), list[str]()
    asked = Writing(config.encoding, config.delimiter)
    for file in files:
        writing = writings.get(file.name, asked)
        readable, told = made_plain(file, scratch, writing)
        try:
            shape = shape_of(readable.path, file.name, writing.delimiter, writing.spanning)
        except NoRows:
            if len(files) == 1:
                raise
            empty.append(file.name)
            continue
        tables.append(TableFile(readable, dataclasses.replace(shape, constants=file.constants)))
        notes += told
    if not tables:
        raise NoRows(f"{files[0].name} and the other files are empty: name files with reviews in them")
    if empty:
        notes.append(f"empty, so passed over: {listed([Path(name).name for name in empty])}")
    return tables, notes


def chosen(
    name: str, tables: list[TableFile], config: PrepareConfig, notes: list[str]
) -> tuple[list[TableFile], Facts]:
    """Return those of several tables that have reviews, and titles from one that has products.

    Raises AmzrecError where none has reviews, or two do that have other columns.
    """
    found = [(table, reviewing(table, config)) for table in tables]
    reviews = [table for table, columns in found if columns]
    if not reviews:
        held = "; ".join(f"{t.file.name} ({listed(t.shape.columns)})" for t in tables[:6])
        raise AmzrecError(
            f"{name} holds {len(tables)} tables, and the columns of none say who reviewed what: {held}. "
            "Name one of them, with --columns customer=…,product=…,stars=…"
        )
    kinds = {columns: table.file.name for table, columns in reversed(found) if columns}
    if len(kinds) > 1 and all(table.file.named for table in reviews):
        told = [
            f"in {file} they are {customer!r} and {product!r}" for (customer, product), file in reversed(kinds.items())
        ]
        raise AmzrecError(
            f"these files have other columns of customers and products: {'; '.join(told)}. Give the columns one name, "
            "or prepare the files one by one"
        )
    if len(kinds) > 1:
        raise AmzrecError(
            f"{name} holds {len(kinds)} kinds of tables that may be the reviews: {', '.join(kinds.values())}. Name one"
        )
    others = [table for table, columns in found if not columns]
    products: Facts = {}
    of_products = next((table for table in others if is_catalogue(table)), None)
    if of_products and not config.titles:
        products = catalogue.read_titles(of_products.file.path, of_products.file.name)
        others.remove(of_products)
        notes.append(f"titles are from {of_products.file.name}; --titles names another file")
    if strange := next((table for table in others if table.file.named), None):
        raise AmzrecError(
            f"{strange.file.name} is not of the kind of {reviews[0].file.name}: none of its columns "
            f"({listed(strange.shape.columns)}) are known as customers and products. Name files of one kind"
        )
    if others:
        names = [Path(table.file.name).name for table in others]
        notes.append(f"without customers and products, so passed over: {listed(names)}")
    notes += folder.parts_note([table.file for table in reviews])
    return reviews, products


def reviewing(table: TableFile, config: PrepareConfig) -> tuple[str, str] | None:
    """Return the columns of customers and products of a table that has reviews, else None."""
    try:
        columns = open_columns(table.file.name, config, table.shape, table.file.path, table.file.name).columns
    except AmzrecError:
        return None
    return columns["customer_id"], columns["product_id"]


def is_catalogue(table: TableFile) -> bool:
    """Return whether a table is one of products with titles, and of nobody's reviews."""
    columns = guessed_columns(table.shape.columns, catalogue=True)
    return {"product_id", "product_title"} <= set(columns) and "customer_id" not in columns


def more_to_say(file: TextFile, shape: Shape, opened: Source, config: PrepareConfig) -> list[str]:
    """Return what a person should know of columns that are not used; of ids only where nobody named those that are."""
    rivals = {} if config.columns else rivals_of(shape.columns, opened.columns)
    if opened.format != "table" and not rivals:
        return []
    seen, told = sample.sample_of(file.path, shape), list[str]()
    for ours, theirs in rivals.items():
        taken, role = opened.columns[ours], ours.removesuffix("_id")
        if seen.get(theirs) != seen.get(taken):
            pair = shlex.quote(pairs_text({role: theirs}))
            told.append(
                f"the {role} is {taken!r}; {theirs!r} has other values and is not used: {pair} in --columns takes it"
            )
    column = sample.unused_stars(seen, opened.columns) if opened.format == "table" else None
    if column:
        pair = shlex.quote(pairs_text({"stars": column}))
        told.append(f"column {column!r} looks like stars, and is not used: add {pair} to --columns to use it")
    return told


def open_columns(name: str, config: PrepareConfig, shape: Shape, path: Path | str, called: str = "") -> Source:
    """Return a source, still without parts, with the columns of --columns, of a known layout, or named what they are.

    `called` is what errors call the file, where `path` is a copy of it. Raises AmzrecError where nothing
    tells which column is which.
    """
    if config.columns:
        return Source(name, "table", named_columns(config.columns, shape, called or path), (), clicks=True)
    return known_layout(name, config.format, shape, path, called) or guessed(name, shape, path)


def known_layout(name: str, format: str | None, shape: Shape, path: Path | str, called: str = "") -> Source | None:
    """Return a source, still without parts, of the layout that --format, the column names or the ids tell."""
    layout = layouts.named(format) if format else layouts.layout_of(shape.names)
    if layout:
        columns = layouts.columns_of(layout, shape.names, called or path)
        return Source(name, layout.name, columns, (), layout.scale, layout.clicks)
    by_position = format if format in ratings.FORMATS else ratings.format_of(path, shape)
    if by_position:
        notes = () if format else (ratings.note(by_position, called or path),)
        columns = ratings.columns_of(by_position, shape, called or path)
        return Source(name, by_position, columns, (), ratings.SCALE, notes=notes)
    return None


def guessed(name: str, shape: Shape, path: Path | str) -> Source:
    """Return a source, still without parts, whose column names say what they are; AmzrecError where they do not."""
    columns = guessed_columns(shape.columns)
    if "customer_id" in columns and "product_id" in columns:
        check_single(columns, shape, name)
        return Source(name, "table", columns, (), clicks=True)
    from amzrec.reviews.sources import FORMATS  # all layouts, this one too

    known = columns == {"customer_id": shape.columns[0]}
    if isinstance(path, Path) and path.is_file() and sample.is_matrix(sample.sample_of(path, shape), shape, known):
        raise AmzrecError(
            f"{name} looks like a matrix of customers and products: a line per customer, a column per product. Write "
            f"one line per review first, such as in Python: {melted(shape)}"
        )
    names = f"the columns {listed(shape.names)}" if shape.names else f"{shape.width} columns without a header"
    raise AmzrecError(
        f"{name} has no known layout: it is {KINDS[shape.kind]} with {names}. Say which column is "
        f"which, such as --columns {shlex.quote(example(shape))}, or its --format: {', '.join(FORMATS)}"
    )


def melted(shape: Shape) -> str:
    """Return the line of Python that makes reviews of a matrix of this shape."""
    options = "" if shape.names else ", header=None"
    options += f", sep={shape.delimiter!r}" if shape.delimiter not in ("", ",") else ""
    first = repr(shape.names[0]) if shape.names else "0"
    read = "read_parquet(FILE)" if shape.kind == "parquet" else f"read_csv(FILE{options})"
    return (
        f"pandas.{read}.rename(columns={{{first}: 'customer'}}).melt('customer', var_name='product', "
        "value_name='stars').dropna().to_csv('reviews.csv', index=False)"
    )


def like_the_first(table: TableFile, first: TableFile, columns: dict[str, str]) -> TableFile:
    """Return one more file of a table; raises AmzrecError where it has not the columns of the first."""
    shape = table.shape
    if not first.shape.names and shape.names:
        shape = dataclasses.replace(shape, names=[])
    missing = [theirs for theirs in columns.values() if theirs not in shape.columns]
    if shape.kind != first.shape.kind or missing:
        what = f"no column {missing[0]!r}" if missing else f"{KINDS[shape.kind]}, not {KINDS[first.shape.kind]}"
        raise AmzrecError(
            f"{table.file.name} is not of the kind of {first.file.name} ({what}): name files of one kind, or one file"
        )
    return TableFile(table.file, shape)


def read_table(engine: Engine, table: TableFile, columns: dict[str, str]) -> Part:
    """Return the named columns of a table file as a part: our names, every value the text it was.

    Ids that are whole numbers as a column with holes has them (17.0, 1e+07) are written as whole numbers.
    """
    part = read_part(engine, table, columns)
    seen = sample.sample_of(table.file.path, table.shape) if table.file.path.is_file() else {}
    if "timestamp" in columns and columns["timestamp"] in seen:
        part = dataclasses.replace(part, first_times=seen[columns["timestamp"]][:FIRST_TIMES])
    ids = [
        ours for ours in IDS
        if ours in columns
        and (part.reviews[ours].type().is_floating() or sample.may_be_whole(seen.get(columns[ours], [])))
    ]  # fmt: skip
    return wholeids.with_whole(engine, part, ids) if ids else part


def read_part(engine: Engine, table: TableFile, columns: dict[str, str]) -> Part:
    """Return the named columns of a table file as a part, every value the text it was."""
    path, shape, name = table.file.path, table.shape, table.file.name
    if shape.kind == "parquet":
        return Part(path, renamed(engine.read_parquet(path), columns, shape), lines=False, called=name)
    if shape.kind == "jsonl":
        keys = {t: shape.paths.get(t, (t,)) for t in sorted(set(columns.values())) if t not in shape.constants}
        return Part(path, renamed(engine.read_objects(path, keys), columns, shape), json=True, called=name)
    header = int(bool(shape.names))
    if shape.spanning:
        rows = engine.read_records(path, list(shape.columns)[: shape.width], shape.delimiter, bool(header))
        rows = with_reason(rows, [(all_blank(rows, shape), BLANK)])
        return Part(path, renamed(rows, columns, shape), header, lines=False, called=name)
    by_line = delimited(engine, path, shape, columns)
    part = Part(path, by_line, header, called=name, delimiter=shape.delimiter)
    if path.stat().st_size < blocks.LARGE or shape.quoted or len(shape.delimiter) > 1:
        return part
    stream = blocks.Blocks(path, shape.delimiter, shape.width, bool(header), positions(shape, columns))
    in_blocks = engine.scan(stream)
    if in_blocks is None:
        return part
    return dataclasses.replace(part, reviews=in_blocks.mutate(**constants(columns, shape)), in_order=by_line)


def renamed(table: Table, columns: dict[str, str], shape: Shape) -> Table:
    """Return our columns of a table that has theirs, and what the reader added."""
    values = {
        ours: value_at(table, shape.paths.get(theirs, (theirs,)) if shape.kind == "parquet" else (theirs,))
        for ours, theirs in columns.items()
        if theirs not in shape.constants
    }
    return table.select(**values, **constants(columns, shape), **added_by_reader(table))


def value_at(table: Table, path: tuple[str, ...]) -> Column:
    """Return the column at a path of names, through records."""
    value = table[path[0]]
    for name in path[1:]:
        value = value[name]
    return value
