"""Customers and products in rows: ids in order with their counts, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from amzrec.reviews.arrow import array_of, lists_of
from amzrec.reviews.engines.protocol import Engine, Table
from amzrec.reviews.relation import Facts
from amzrec.reviews.titles import clean_titles, tokens
from amzrec.store.dataset import CUSTOMER_SCHEMA, PRODUCT_SCHEMA

CHUNK = 50_000  # rows that are Python objects at one time
REVIEW_FACTS = {"title": "product_title", "category": "category"}  # what reviews say of products → their column
REPEATED = ["features.list.element"]  # the column of which few values stand in many rows
UNKNOWN: tuple[str | None, list[str]] = (None, [])  # the facts of an id that the catalogue does not have


def in_rows(engine: Engine, reviews: Table, name: str, listed: list[str]) -> Table:
    """Make the table `{name}_rows`: hash (null where merely listed), id, count in train, row from 1.

    `name` is customer or product; `reviews` has that hash and `part`; the table `{name}_ids` has the ids of the hashes.
    Rows go by descending count, ties by id; `listed` are ids that the catalogue has, with or without reviews.
    """
    counts = reviews.group_by(name).agg(count=reviews.count(where=reviews.part == 0))
    counts = counts.join(engine.table(f"{name}_ids"), name)
    counts = counts.select(hash=name, id=f"{name}_id", count=counts["count"].cast("int64"))
    if listed:
        ids = pa.table({"id": pa.array(sorted(set(listed)), pa.string())})
        extra = engine.create_table(f"{name}_listed", ids).anti_join(counts, "id")
        no_hash = ibis.null().cast(counts["hash"].type())
        counts = counts.union(extra.select(hash=no_hash, id="id", count=ibis.literal(0, "int64")))
    window = ibis.window(order_by=[counts["count"].desc(), counts.id.asc()])
    row = (ibis.row_number().over(window) + 1).cast("int32")
    return engine.create_table(f"{name}_rows", counts.mutate(row=row))


def with_review_facts(products: Table, facts: Table) -> Table:
    """Add the commonest title and category of the reviews of each product (of equally common ones the first by name).

    `products` is as `in_rows` gives; `facts` has product, n, and those columns of REVIEW_FACTS that reviews have.
    """
    for name, column in REVIEW_FACTS.items():
        if column not in facts.columns:
            products = products.mutate(**{name: ibis.null().cast("string")})
            continue
        values = facts.filter(facts[column].notnull()).group_by(["product", column]).agg(n=lambda t: t.n.sum())
        window = ibis.window(group_by=values["product"], order_by=[values.n.desc(), values[column].asc()])
        values = values.mutate(rank=ibis.row_number().over(window))
        commonest = values.filter(values["rank"] == 0).select(hash="product", **{name: column})
        products = products.left_join(commonest, "hash").drop("hash_right")
    return products


def write_customers(engine: Engine, path: Path, customers: Table, facts: Facts) -> None:
    """Write customers.parquet from the table that `in_rows` made; row 0 is the unknown customer."""
    with pq.ParquetWriter(path, CUSTOMER_SCHEMA, use_dictionary=REPEATED) as writer:
        for batch in row_batches(engine, customers.select("row", "id", "count")):
            features = no_lists(len(batch))
            if facts:
                features = feature_lists([facts.get(id, UNKNOWN)[1] for id in batch["id"].to_pylist()])
            write_batch(writer, CUSTOMER_SCHEMA, [batch["row"], batch["id"], batch["count"], features])


def write_products(engine: Engine, path: Path, products: Table, facts: Facts) -> None:
    """Write products.parquet from the table that `with_review_facts` made; row 0 is the unknown product.

    Titles and features of `facts` go before those of the reviews.
    """
    with pq.ParquetWriter(path, PRODUCT_SCHEMA, use_dictionary=REPEATED) as writer:
        for batch in row_batches(engine, products.select("row", "id", "count", "title", "category")):
            titles, features = clean_titles(batch["title"]), category_lists(batch["category"])
            if facts:
                known = [facts.get(id, UNKNOWN) for id in batch["id"].to_pylist()]
                titles = pa.compute.coalesce(clean_titles(pa.array([t for t, _ in known], pa.string())), titles)
                both = [ours + theirs for ours, (_, theirs) in zip(features.to_pylist(), known, strict=True)]
                features = feature_lists(both)
            columns = [batch["row"], batch["id"], titles, batch["count"], features, tokens(titles)]
            write_batch(writer, PRODUCT_SCHEMA, columns)


def category_lists(names: pa.StringArray) -> pa.ListArray:
    """Return the feature lists of products of which no more is known than a category, or null."""
    values = pa.compute.replace_substring_regex(names.drop_null(), "^", "category=", max_replacements=1)
    return lists_of(names.is_valid().to_numpy(zero_copy_only=False), values)


def feature_lists(features: list[list[str]]) -> pa.ListArray:
    """Return lists of texts as Arrow has them."""
    return pa.array(features, pa.list_(pa.string()))


def no_lists(count: int) -> pa.ListArray:
    """Return so many empty lists of texts."""
    return lists_of(np.zeros(count, np.int64), pa.nulls(0, pa.string()))


def row_batches(engine: Engine, rows: Table) -> Iterator[pa.RecordBatch]:
    """Yield the unknown row 0, then the rows in order, CHUNK at a time."""
    empty = pa.StringArray.from_buffers(1, pa.py_buffer(np.zeros(2, np.int32)), pa.py_buffer(b""))
    unknown = {"row": array_of(np.zeros(1, np.int32)), "id": empty, "count": array_of(np.zeros(1, np.int64))}
    yield pa.record_batch({name: unknown.get(name, pa.nulls(1, pa.string())) for name in rows.columns})
    yield from engine.batches(rows.order_by("row"), CHUNK)


def write_batch(writer: Any, schema: pa.Schema, columns: list[pa.Array]) -> None:
    """Write one batch of columns in the order of the schema."""
    typed = [values.cast(field.type) for values, field in zip(columns, schema, strict=True)]
    writer.write_table(pa.Table.from_arrays(typed, schema=schema))
