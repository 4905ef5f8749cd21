"""Ids in order with their counts, and what is known of a customer or product: features, titles, tokens."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from amzrec.reviews.sources.catalogue import JUNK, clean_title
from amzrec.reviews.sources.relation import Facts
from amzrec.store.dataset import CUSTOMER_SCHEMA, PRODUCT_SCHEMA

WORD = re.compile(r"\w+")
LOWER = np.array([ord(chr(b).lower()) if b > 127 or WORD.match(chr(b)) else 0 for b in range(256)], np.uint8)
LOWER[128:] = range(128, 256)  # of UTF-8; a word has no byte 0
# Titles that `clean_title` may change: entities, page source, blanks to squeeze, nothing, more than plain ASCII
NEEDY = r"^$|^ | $|  |&|[^ -~]|^(" + "|".join(JUNK).replace(".", r"\.") + ")"
CHUNK = 50_000  # rows that are Python objects at one time
TOLD = {"title": "product_title", "category": "category"}  # what reviews tell of products → the column of RAW
REPEATED = ["features.list.element"]  # the column of which few values stand in many rows
UNKNOWN: tuple[str | None, list[str]] = (None, [])  # the facts of an id that the catalogue does not have


def words(title: str) -> str:
    """The lower-cased words of a title, with blanks between."""
    return " ".join(WORD.findall(title.lower()))


def tokens(titles: pa.StringArray) -> pa.ListArray:
    """crc32 & 0x7fffffff of the lower-cased words of each title [n], in order, as int32 lists; none of a null.

    Python's own hash changes from process to process. All titles are split at once, as one array of bytes, and each
    different word is hashed once.
    """
    there = titles.is_valid().to_numpy(zero_copy_only=False)
    known = titles.drop_null()
    odd = ~pa.compute.string_is_ascii(known).to_numpy(zero_copy_only=False)
    if odd.any():
        mended = pa.array([words(title) for title in known.filter(arrow(odd)).to_pylist()], pa.string())
        known = pa.compute.replace_with_mask(known, arrow(odd), mended)
    ends = ends_of(known)
    text = LOWER[np.frombuffer(known.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]]
    ends = ends - ends[0]
    inside = text > 0
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    starts = ends[:-1][ends[:-1] < len(text)]
    begins[starts] = inside[starts]  # a title begins anew, also right after a word
    first = np.flatnonzero(begins)
    bounds = np.append((np.cumsum(inside) - 1)[first], inside.sum()).astype(np.int32)
    parted = pa.Array.from_buffers(pa.binary(), len(first), [None, *map(pa.py_buffer, (bounds, text[inside]))])
    coded = parted.dictionary_encode()
    codes = np.array([zlib.crc32(word) & 0x7FFFFFFF for word in coded.dictionary.to_pylist()], np.int32)
    sizes = np.zeros(len(titles), np.int64)
    sizes[there] = np.diff(np.searchsorted(first, ends))
    return lists(sizes, arrow(codes[coded.indices.to_numpy()] if len(codes) else codes))


def cleaned(titles: pa.StringArray) -> pa.StringArray:
    """`clean_title` of each: in Python of those titles only that may need it."""
    needy = pa.compute.match_substring_regex(titles, NEEDY).fill_null(False)
    if not needy.true_count:
        return titles
    mended = pa.array([clean_title(title) for title in titles.filter(needy).to_pylist()], pa.string())
    return pa.compute.replace_with_mask(titles, needy, mended)


def arrow(values: Any) -> pa.Array:
    """A NumPy array as an Arrow array; `pa.array` does the same, and imports pandas for it, which takes half a second.

    Booleans are packed to the bits that Arrow has.
    """
    if values.dtype == bool:
        bits = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def lists(sizes: Any, values: pa.Array) -> pa.ListArray:
    """`values` parted into lists of these sizes [n]."""
    return pa.ListArray.from_arrays(arrow(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)), values)


def ends_of(texts: pa.StringArray) -> Any:
    """Where each text begins in the array's bytes, and where the last one ends: int32 [n + 1]."""
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]


def numbered(con: Any, kept: Any, name: str, listed: list[str]) -> Any:
    """The table `{name}_rows` of the engine: code (null where merely listed), id, count in train, row 1...

    `name` is customer or product; `kept` has that code and `part`; ids of the codes stand in the table `{name}_ids`.
    Rows go by descending train count, ties by id; `listed` are ids that the catalogue has, with or without reviews.
    """
    import ibis

    ids = con.table(f"{name}_ids")
    counts = kept.group_by(name).agg(count=kept.count(where=kept.part == 0)).join(ids, name)
    counts = counts.select(code=name, id=f"{name}_id", count=counts["count"].cast("int64"))
    if listed:
        extra = con.create_table(f"{name}_listed", pa.table({"id": pa.array(sorted(set(listed)), pa.string())}))
        extra = extra.anti_join(counts, "id")
        none = ibis.null().cast(counts.code.type())
        counts = counts.union(extra.select(code=none, id="id", count=ibis.literal(0, "int64")))
    window = ibis.window(order_by=[counts["count"].desc(), counts.id.asc()])
    rows = (ibis.row_number().over(window) + 1).cast("int32")
    return con.create_table(f"{name}_rows", counts.mutate(row=rows))


def write_customers(path: Path, rows: Any, facts: Facts) -> None:
    """customers.parquet from the table that `numbered` made; row 0 is the unknown customer."""
    with pq.ParquetWriter(path, CUSTOMER_SCHEMA, use_dictionary=REPEATED) as writer:
        for batch in batches(rows.select("row", "id", "count")):
            features = [facts.get(customer, UNKNOWN)[1] for customer in batch["id"].to_pylist()] if facts else None
            write(writer, CUSTOMER_SCHEMA, [batch["row"], batch["id"], batch["count"], texts(features, len(batch))])


def write_products(path: Path, rows: Any, facts: Facts) -> None:
    """products.parquet likewise; `rows` also has the columns title and category (null where unknown)."""
    with pq.ParquetWriter(path, PRODUCT_SCHEMA, use_dictionary=REPEATED) as writer:
        for batch in batches(rows.select("row", "id", "count", "title", "category")):
            titles, features = cleaned(batch["title"]), categories(batch["category"])
            if facts:
                told = [facts.get(product, UNKNOWN) for product in batch["id"].to_pylist()]
                theirs = cleaned(pa.array([title for title, _ in told], pa.string()))
                titles = pa.compute.coalesce(theirs, titles)
                ours = features.to_pylist()
                features = texts([own + more for own, (_, more) in zip(ours, told, strict=True)], len(batch))
            write(writer, PRODUCT_SCHEMA, [batch["row"], batch["id"], titles, batch["count"], features, tokens(titles)])


def categories(names: pa.StringArray) -> pa.ListArray:
    """The feature lists of products of which no more is known than a category, or null."""
    values = pa.compute.replace_substring_regex(names.drop_null(), "^", "category=", max_replacements=1)
    return lists(names.is_valid().to_numpy(zero_copy_only=False), values)


def texts(values: list[list[str]] | None, count: int) -> pa.ListArray:
    """Lists of texts as Arrow has them; None: `count` empty ones."""
    if values is None:
        return lists(np.zeros(count), pa.nulls(0, pa.string()))
    return pa.array(values, pa.list_(pa.string()))


def described(rows: Any, told: Any) -> Any:
    """`rows` of products with the commonest title and category of their reviews (ties: the first in the alphabet).

    `told` has product, n, and those columns of TOLD that the reviews have.
    """
    import ibis

    for name, column in TOLD.items():
        if column not in told.columns:
            rows = rows.mutate(**{name: ibis.null().cast("string")})
            continue
        each = told.filter(told[column].notnull()).group_by(["product", column]).agg(n=lambda t: t.n.sum())
        window = ibis.window(group_by=each["product"], order_by=[each.n.desc(), each[column].asc()])
        each = each.mutate(place=ibis.row_number().over(window))
        each = each.filter(each.place == 0).select(code="product", **{name: column})
        rows = rows.left_join(each, "code").drop("code_right")
    return rows


def batches(rows: Any) -> Iterator[pa.RecordBatch]:
    """The unknown row 0, then the rows in order, CHUNK at a time."""
    empty = pa.StringArray.from_buffers(1, pa.py_buffer(np.zeros(2, np.int32)), pa.py_buffer(b""))
    unknown = {"row": arrow(np.zeros(1, np.int32)), "id": empty, "count": arrow(np.zeros(1, np.int64))}
    yield pa.record_batch({name: unknown.get(name, pa.nulls(1, pa.string())) for name in rows.columns})
    yield from rows.order_by("row").to_pyarrow_batches(chunk_size=CHUNK)


def write(writer: Any, schema: pa.Schema, columns: list[Any]) -> None:
    """One batch of columns in the order of the schema."""
    typed = [values.cast(field.type) for values, field in zip(columns, schema, strict=True)]
    writer.write_table(pa.Table.from_arrays(typed, schema=schema))
