"""Ids in order with their counts, and what is known of a customer or product: features, titles, tokens."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.dataset import CUSTOMER_SCHEMA, PRODUCT_SCHEMA
from amzrec.sources.catalogue import clean_title
from amzrec.sources.relation import Facts

WORD = re.compile(r"\w+")
ASCII = bytes(byte if WORD.match(chr(byte)) else ord(" ") for byte in range(128)) + bytes(128)  # WORD without re
CHUNK = 50_000  # rows that are Python objects at one time
KEPT = 500_000  # words whose codes are kept: about 100 MB, and more than most catalogues have
TOLD = {"title": "product_title", "category": "category"}  # what reviews tell of products → the column of RAW
REPEATED = ["features.list.element"]  # the column of which few values stand in many rows
UNKNOWN: tuple[str | None, list[str]] = (None, [])  # the facts of an id that the catalogue does not have


def tokens(title: str | None) -> list[int]:
    """crc32 & 0x7fffffff of the lower-cased words of a title, in order (Python's hash changes per process)."""
    return [Words.code(word) for word in words(title).split()]


def words(title: str | None) -> bytes:
    """The lower-cased words of a title as UTF-8, with blanks between."""
    text = (title or "").lower()
    return text.encode().translate(ASCII) if text.isascii() else " ".join(WORD.findall(text)).encode()


class Words(dict[bytes, int]):
    """The codes of words, kept: catalogues repeat theirs, and a lookup takes a third of the time of a checksum."""

    END = b"\0"  # stands in no word

    def __init__(self) -> None:
        super().__init__({self.END: -1})

    def __missing__(self, word: bytes) -> int:
        return self.setdefault(word, self.code(word))

    @staticmethod
    def code(word: bytes) -> int:
        """The code of one word, int in [0, 2^31)."""
        return zlib.crc32(word) & 0x7FFFFFFF

    def lists(self, titles: list[str | None]) -> pa.Array:
        """`tokens` of each title as an Arrow array of int32 lists; all at once, which spares a list per title."""
        if len(self) > KEPT:
            self.clear()
            self[self.END] = -1
        parted = b"".join(b"%b %b " % (words(title), self.END) for title in titles).split()
        codes = np.fromiter(map(self.__getitem__, parted), np.int64, len(parted))
        ends = np.flatnonzero(codes < 0)
        ends = np.concatenate([[0], ends - np.arange(len(ends))])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(codes[codes >= 0], pa.int32()))


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
            features = Lists(pa.string(), empty=0 if facts else len(batch))
            for customer in batch["id"].to_pylist() if facts else ():
                features.add(facts.get(customer, UNKNOWN)[1])
            write(writer, CUSTOMER_SCHEMA, [batch["row"], batch["id"], batch["count"], features.array()])


def write_products(path: Path, rows: Any, facts: Facts) -> None:
    """products.parquet likewise; `rows` also has the columns title and category (null where unknown)."""
    known_words = Words()
    with pq.ParquetWriter(path, PRODUCT_SCHEMA, use_dictionary=REPEATED) as writer:
        for batch in batches(rows.select("row", "id", "count", "title", "category")):
            titles, features = list[str | None](), Lists(pa.string())
            columns = (batch[name].to_pylist() for name in ("id", "title", "category"))
            for product, found, category in zip(*columns, strict=True):
                known, told = facts.get(product, UNKNOWN)
                title = clean_title(known) or clean_title(found)
                titles.append(title)
                features.add([f"category={category}", *told] if category else told)
            values = [batch["row"], batch["id"], titles, batch["count"], features.array(), known_words.lists(titles)]
            write(writer, PRODUCT_SCHEMA, values)


def described(rows: Any, told: Any) -> Any:
    """`rows` of products with the commonest title and category of their reviews (ties: the first in the alphabet).

    `told` has product_id, n, and those columns of TOLD that the reviews have.
    """
    import ibis

    for name, column in TOLD.items():
        if column not in told.columns:
            rows = rows.mutate(**{name: ibis.null().cast("string")})
            continue
        each = told.filter(told[column].notnull()).group_by(["product_id", column]).agg(n=lambda t: t.n.sum())
        window = ibis.window(group_by=each.product_id, order_by=[each.n.desc(), each[column].asc()])
        each = each.mutate(place=ibis.row_number().over(window))
        each = each.filter(each.place == 0).select(id="product_id", **{name: column})
        rows = rows.left_join(each, "id").drop("id_right")
    return rows


class Lists:
    """Lists, first some empty ones, gathered as Arrow has them: all values after each other, and where each ends."""

    def __init__(self, type: pa.DataType, empty: int = 0) -> None:
        self.type, self.values, self.ends = type, list[Any](), [0] * (empty + 1)

    def add(self, values: list[Any]) -> None:
        """One more list."""
        self.values.extend(values)
        self.ends.append(len(self.values))

    def array(self) -> pa.Array:
        """The lists as one Arrow array."""
        return pa.ListArray.from_arrays(pa.array(self.ends, pa.int32()), pa.array(self.values, self.type))


def batches(rows: Any) -> Iterator[pa.Table]:
    """The unknown row 0, then the rows in order, in tables of CHUNK rows."""
    unknown: dict[str, Any] = {"row": 0, "id": "", "count": 0}
    yield pa.Table.from_pylist([unknown], schema=rows.schema().to_pyarrow())
    for batch in rows.order_by("row").to_pyarrow_batches(chunk_size=CHUNK):
        yield pa.Table.from_batches([batch])


def write(writer: Any, schema: pa.Schema, columns: list[Any]) -> None:
    """One batch of columns in the order of the schema."""
    typed = [
        values.cast(field.type) if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    writer.write_table(pa.Table.from_arrays(typed, schema=schema))
