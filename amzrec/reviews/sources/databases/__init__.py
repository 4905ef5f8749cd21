"""Reviews and titles in databases: one query, its rows copied once, as they come, into a Parquet file."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.engines.protocol import Engine
from amzrec.reviews.relation import Part, Source
from amzrec.reviews.sources import address
from amzrec.reviews.sources.catalogue import id_and_title
from amzrec.reviews.sources.columns import guessed_columns, pairs_of
from amzrec.reviews.sources.databases.protocol import NESTED, Columns, Database, Tables
from amzrec.reviews.sources.layouts import layout_of
from amzrec.reviews.sources.shape import Shape
from amzrec.reviews.sources.tables import open_columns
from amzrec.reviews.textfile import content_of
from amzrec.store.seals import copy_or_doctor

SQLITE = b"SQLite format 3\0"  # the first bytes of an SQLite file
LISTED = 12  # tables that an error names


def is_database(source: str) -> bool:
    """Return whether a source is a database: an address of one, or an SQLite file, whatever its name."""
    if scheme := address.scheme_of(source):
        return scheme in address.DATABASES
    path, _ = address.file_of(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def connected(source: str) -> tuple[Database, address.Address]:
    """Connect to the database of a source; raises AmzrecError where it does not answer, or a package lacks."""
    if not address.scheme_of(source):
        path, inside = address.file_of(source)
        where = address.Address("sqlite", str(path), source, inside, ())
    else:
        where = address.parsed(source)
    module = importlib.import_module(f"{__name__}.{address.DATABASES[where.scheme]}")
    database: Database = module.connect(where)
    return database, where


def open_database(
    engine: Engine, source: str, config: PrepareConfig, scratch: Path, progress: Progress = SILENT
) -> Source:
    """Open the table or query of reviews in a database, copied into a file of the folder `scratch`.

    Raises AmzrecError where the server, the table, the query or the columns are not what they should be.
    """
    database, where = connected(source)
    with contextlib.closing(database):
        check_events(database, where)
        inside, query = chosen(database, where, config.table, config.query, lambda names: has_reviews(names, config))
        columns = database.columns(query)
        name = f"{where.shown.partition('#')[0]}#{inside}"
        opened = open_columns(name, config, Shape("database", list(columns)), name)
        check_flat(name, opened.columns, columns)
        wanted = {ours: (theirs, columns[theirs]) for ours, theirs in opened.columns.items()}
        file = free_name(scratch, "database")
        copied(database.rows(query, wanted), file, name, progress)
    part = Part(file, engine.read_parquet(file), lines=False, called=name)
    return dataclasses.replace(opened, parts=(part,), fingerprint=content_of([file]))


def titles_file(source: str, scratch: Path, progress: Progress = SILENT) -> Path:
    """Copy the table or query of products in a database into a file that has its columns."""
    database, where = connected(source)
    with contextlib.closing(database):
        inside, query = chosen(database, where, None, None, has_titles)
        columns = database.columns(query)
        file = free_name(scratch, "titles")
        copied(database.records(query, columns), file, f"{where.shown.partition('#')[0]}#{inside}", progress)
    return file


def chosen(
    database: Database,
    where: address.Address,
    table: str | None,
    query: str | None,
    fits: Tables,
) -> tuple[str, str]:
    """Return the table's name or the query as the person would type it behind #, and the query to run.

    `table` and `query` are those of the flags; without them what stands behind # counts, and without that the only
    table that `fits`. Raises AmzrecError where there is no such table, or not exactly one that fits.
    """
    if query or (not table and where.inside and " " in where.inside.strip('"')):
        text = (query or where.inside).strip().rstrip(";").rstrip()
        return text, text
    tables = database.tables()
    wanted = table or where.inside
    if wanted:
        name = table_of(wanted, list(tables), where.shown)
        return name, database.whole(name)
    candidates = [name for name, columns in tables.items() if fits(columns)]
    if len(candidates) == 1:
        return candidates[0], database.whole(candidates[0])
    if candidates:
        raise AmzrecError(
            f"{where.shown} has {len(candidates)} tables that it could be: {', '.join(candidates[:LISTED])}. "
            "Name one with --table, or write it behind the address: ADDRESS#TABLE"
        )
    listed = "; ".join(f"{name} ({', '.join(columns[:LISTED])})" for name, columns in list(tables.items())[:LISTED])
    raise AmzrecError(
        f"{where.shown} has no table whose columns say what they are. Its tables: {listed or 'none'}. Name one with "
        "--table and its columns with --columns customer=…,product=…,stars=…, or write a --query"
    )


def table_of(wanted: str, tables: list[str], shown: str) -> str:
    """Return the table of this name, with or without its schema; AmzrecError, with the nearest names, for none."""
    bare = wanted.strip().replace('"', "")
    for same in (str, str.lower):
        found = [name for name in tables if same(bare) in (same(name), same(name.partition(".")[2]))]
        if found:
            return found[0]
    near = difflib.get_close_matches(bare, tables, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise AmzrecError(
        f"{shown} has no table {wanted!r}; {hint}Its tables: {', '.join(tables[:LISTED]) or 'none that you may read'}"
    )


def has_reviews(names: list[str], config: PrepareConfig) -> bool:
    """Return whether a table may be the one of reviews: it has the columns of --columns, or their names say so."""
    if config.columns:
        return {theirs for _, theirs in pairs_of(config.columns)} <= set(names)
    return bool(layout_of(names)) or {"customer_id", "product_id"} <= set(guessed_columns(names))


def has_titles(names: list[str]) -> bool:
    """Return whether a table may be the one of products: it has ids and titles, and no customers."""
    found = guessed_columns(names)
    return all(id_and_title(tuple(names))) and "customer_id" not in found


def check_flat(name: str, ours: dict[str, str], columns: Columns) -> None:
    """Raise AmzrecError where a column that is needed holds JSON, a list or a record."""
    for theirs in ours.values():
        if columns[theirs] == NESTED:
            raise AmzrecError(
                f"column {theirs!r} of {name} holds JSON, a list or a record: take the piece that you mean with a "
                f"--query, such as select {theirs}->>'id' as customer_id, … (PostgreSQL)"
            )


def check_events(database: Database, where: address.Address) -> None:
    """Raise AmzrecError where events of the service are not what it stored."""
    place = where.shown.partition("#")[0]
    backup = "Restore a backup of it, or delete them"
    if (found := database.events()) and (
        wrong := found.complaint(place, copy_or_doctor(place) if where.scheme == "sqlite" else backup)
    ):
        raise AmzrecError(wrong)


def copied(batches: Iterable[pa.RecordBatch], file: Path, name: str, progress: Progress) -> None:
    """Write batches into a Parquet file as they come, and say how many rows there were; memory stays bounded."""
    start, rows = time.monotonic(), 0
    writer: pq.ParquetWriter | None = None
    for batch in batches:
        writer = writer or pq.ParquetWriter(file, batch.schema)
        writer.write_batch(batch)
        rows += batch.num_rows
        progress.step("prepare: fetching", 0, 1, f"{rows:,} rows")
    if writer is None:
        raise AmzrecError(f"{name} holds no rows: name a table or a query with reviews in it")
    writer.close()
    progress.say(f"{name}: {rows:,} rows fetched in {time.monotonic() - start:.1f} s")


def free_name(scratch: Path, kind: str) -> Path:
    """Return a file name in the folder `scratch` that is not taken yet."""
    return next(file for n in range(10_000) if not (file := scratch / f"{kind}-{n}.parquet").exists())
