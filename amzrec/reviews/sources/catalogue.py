"""Metadata files: titles and features by product id."""

from __future__ import annotations

import ast
import csv
import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.errors import AmzrecError
from amzrec.reviews.sources import tables
from amzrec.reviews.sources.relation import Facts, check_gzip, first_lines, open_bytes

IDS = ("parent_asin", "asin", "product_id", "item_id", "movieId", "movie_id", "id")
TITLES = ("title", "product_title", "name")
LEVELS = 6  # of a category path
JUNK = ("<span class=", "<img ", "var aPageStart", "Amazon.com:")  # page source that Amazon metadata has for a title
LONGEST = 60  # characters: what is longer in a category path is a sentence, not a category


def read_titles(path: Path) -> Facts:
    """Titles, brands and categories by product id from JSON lines (also the Python literals of 2014), CSV or TSV.

    The first line of a product that has a title gives it. Raises AmzrecError where the file has no ids or titles.
    """
    if not path.is_file():
        raise AmzrecError(f"there is no file {path} for --titles")
    check_gzip(path)
    lines = first_lines(path, 1)
    if not lines:
        raise AmzrecError(f"--titles {path} is empty")
    facts: Facts = {}
    rows = objects(path) if lines[0].lstrip().startswith("{") else table_rows(path)
    for row in rows:
        product = next((str(row[name]).strip() for name in IDS if row.get(name)), "")
        title = next((clean_title(str(row[name])) for name in TITLES if row.get(name)), None)
        if product and (product not in facts or (facts[product][0] is None and title)):
            facts[product] = title, features(row) or facts.get(product, (None, []))[1]
    if not facts:
        raise AmzrecError(
            f"--titles {path} names no product: it needs one of {', '.join(IDS)}, and {' or '.join(TITLES)}"
        )
    return facts


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines; lines that are none are passed over."""
    with open_bytes(path) as file:
        for line in file:
            try:
                value = json.loads(line)
            except ValueError:
                try:
                    value = ast.literal_eval(line.decode("utf-8", "replace").strip())
                except (ValueError, SyntaxError):
                    continue
            if isinstance(value, dict):
                yield value


def table_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a delimited file with a header, or of Parquet."""
    found = tables.shape(path)
    if found.kind == "parquet":
        yield from (row for batch in pq.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        return
    with open_bytes(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
        if found.quoted:
            yield from csv.DictReader(text, delimiter=found.delimiter)
        else:
            rows = (line.rstrip("\r\n").split(found.delimiter) for line in text)
            next(rows, None)
            yield from (dict(zip(found.names, row, strict=False)) for row in rows)


def clean_title(title: str | None) -> str | None:
    """A title as people read it: entities decoded, blanks squeezed; None for page source or nothing."""
    if title is None or title.lstrip().startswith(JUNK):
        return None
    if title.isprintable() and "&" not in title and "  " not in title:  # nothing to mend, which is soon seen
        return title.strip() or None
    return " ".join(html.unescape(title).split()) or None


def features(row: dict[str, Any]) -> list[str]:
    """Brand and category path of one product as "name=value"."""
    found = []
    brand = row.get("brand") or row.get("store")
    if isinstance(brand, str) and brand.strip() and len(brand) <= LONGEST:
        found.append(f"brand={html.unescape(brand).strip()}")
    path: list[Any] = []
    for name in ("main_category", "main_cat", "category", "categories"):
        value = row.get(name) or []
        path += flat(value) if isinstance(value, list) else [value]
    levels = [html.unescape(level).strip() for level in path if isinstance(level, str)]
    kept = [level for level in dict.fromkeys(levels) if 0 < len(level) <= LONGEST and "<" not in level]
    return found + [f"category={level}" for level in kept[:LEVELS]]


def flat(values: list[Any]) -> list[Any]:
    """A list of lists as one list."""
    return [leaf for value in values for leaf in (flat(value) if isinstance(value, list) else [value])]


def by_key(products: Facts, key: str) -> Facts:
    """The facts of a catalogue by product key: by title, the first product of a title gives its features."""
    if key != "title":
        return products
    named: Facts = {}
    for title, told in products.values():
        if title:
            named.setdefault(title, (title, told))
    return named


def titles_table(con: Any, products: Facts) -> Any:
    """The table (id, title) of the engine that product key `title` looks titles up in; None without a catalogue."""
    if not products:
        return None
    told = [(product, title) for product, (title, _) in products.items() if title]
    ids, titles = zip(*told, strict=True) if told else ((), ())
    return con.create_table(
        "titles", pa.table({"id": pa.array(ids, pa.string()), "title": pa.array(titles, pa.string())})
    )
