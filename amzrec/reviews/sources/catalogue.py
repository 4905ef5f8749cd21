"""Metadata files: titles and features by product id."""

from __future__ import annotations

import ast
import csv
import functools
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Engine, Table
from amzrec.reviews.relation import Facts
from amzrec.reviews.sources.columns import guessed_columns, listed
from amzrec.reviews.sources.shape import shape_of
from amzrec.reviews.textfile import blank_lines, check_gzip, first_lines, open_bytes
from amzrec.reviews.titles import clean_title
from amzrec.store.documents import json_value

IDS = ("parent_asin", "asin", "product_id", "item_id", "movieId", "movie_id", "id")
TITLES = ("title", "product_title", "name")
LEVELS = 6  # of a category path
LONGEST = 60  # characters: what is longer in a category path is a sentence, not a category


def read_titles(path: Path, name: str = "") -> Facts:
    """Read titles, brands and categories by product id from JSON lines (also the Python literals of 2014), CSV or TSV.

    `name` is what errors call the file. The first line of a product that has a title gives it. Raises AmzrecError
    where the file has no ids or titles.
    """
    if not path.is_file():
        raise AmzrecError(
            f"there is no file {path} for --titles: name a file, or a table of a database (ADDRESS#TABLE)"
        )
    check_gzip(path)
    lines = first_lines(path, 1)
    if not lines:
        raise AmzrecError(f"--titles {path} is empty")
    facts: Facts = {}
    names: dict[str, None] = {}
    rows = objects(path) if lines[0].lstrip().startswith("{") else table_rows(path)
    for row in rows:
        of_ids, of_titles = id_and_title(tuple(row))
        names |= dict.fromkeys(row) if not facts else {}
        product = next((id_of(row[name]) for name in of_ids if row.get(name) not in (None, "")), "")
        title = next((clean_title(str(row[name])) for name in of_titles if row.get(name)), None)
        if product and (product not in facts or (facts[product][0] is None and title)):
            facts[product] = title, features(row) or facts.get(product, (None, []))[1]
    if not any(title or features for title, features in facts.values()):
        raise AmzrecError(
            f"--titles {name or path} names no product: it needs a column of ids, such as {', '.join(IDS)}, and one of "
            f"titles, such as {' or '.join(TITLES)}. Its columns: {listed([str(name) for name in names])}"
        )
    return facts


@functools.lru_cache(1000)
def id_and_title(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the columns that may have ids and titles of products, the likeliest first."""
    columns = guessed_columns([name for name in names if name is not None], catalogue=True)
    ids = [*(name for name in IDS if name in names), columns.get("product_id")]
    titles = [*(name for name in TITLES if name in names), columns.get("product_title")]
    return [name for name in ids if name], [name for name in titles if name]


def id_of(value: Any) -> str:
    """Return an id as text: 17 for 17.0 too, as a column with holes has it."""
    text = str(value).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines; lines that are none are passed over."""
    with open_bytes(path) as file:
        for line in file:
            try:
                value = json_value(line)
            except ValueError:
                try:
                    value = ast.literal_eval(line.decode("utf-8", "replace").strip())
                except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                    continue
            if isinstance(value, dict):
                yield value


def table_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a delimited file with a header, or of Parquet."""
    shape = shape_of(path)
    if shape.kind == "parquet":
        yield from (row for batch in pq.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        return
    blank = blank_lines(path)
    with open_bytes(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
        for _ in range(blank):
            text.readline()
        if shape.quoted:
            try:
                yield from csv.DictReader(text, delimiter=shape.delimiter)
            except csv.Error as error:
                raise unreadable(path, error) from error
        else:
            rows = (line.rstrip("\r\n").split(shape.delimiter) for line in text)
            next(rows, None)
            yield from (dict(zip(shape.names, row, strict=False)) for row in rows)


def unreadable(path: Path | str, error: csv.Error) -> AmzrecError:
    """Return what to say of a file of products that is no CSV, mostly for a quote that is never closed."""
    return AmzrecError(f"{path} cannot be read as CSV: {error}. Look for a quote that is not closed")


def features(row: dict[str, Any]) -> list[str]:
    """Return brand and category path of one product as "name=value"."""
    brands = []
    brand = row.get("brand") or row.get("store")
    if isinstance(brand, str) and brand.strip() and len(brand) <= LONGEST:
        brands.append(f"brand={html.unescape(brand).strip()}")
    path: list[Any] = []
    for name in ("main_category", "main_cat", "category", "categories"):
        value = row.get(name) or []
        path += flat(value) if isinstance(value, list) else [value]
    levels = [html.unescape(level).strip() for level in path if isinstance(level, str)]
    kept = [level for level in dict.fromkeys(levels) if 0 < len(level) <= LONGEST and "<" not in level]
    return brands + [f"category={level}" for level in kept[:LEVELS]]


def flat(values: list[Any]) -> list[Any]:
    """Return a list of lists as one list."""
    waiting, leaves = values[::-1], list[Any]()
    while waiting:  # no recursion: a file may nest its lists as deep as JSON is read
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value[::-1]
        else:
            leaves.append(value)
    return leaves


def by_key(products: Facts, key: str) -> Facts:
    """Return the facts by product key: under a title, those of the first product of that title."""
    if key != "title":
        return products
    named: Facts = {}
    for title, features in products.values():
        if title:
            named.setdefault(title, (title, features))
    return named


def titles_table(engine: Engine, products: Facts) -> Table | None:
    """Make the table (id, title) that product key `title` looks titles up in; None without a catalogue."""
    if not products:
        return None
    titled = {product: title for product, (title, _) in products.items() if title}
    columns = {"id": pa.array(list(titled), pa.string()), "title": pa.array(list(titled.values()), pa.string())}
    return engine.create_table("titles", pa.table(columns), overwrite=True)
