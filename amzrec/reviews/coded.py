"""Reviews as numbers on the engine: ids coded, one review per customer and product, the k-core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis

from amzrec.errors import AmzrecError
from amzrec.reviews.engines.engine import drop, size

PAIR = ["customer", "product"]


def _hash(text: str) -> int:  # type: ignore[empty-body]
    """A hash of 64 bits, under the name it has on each engine."""


HASHES: dict[str, Any] = {
    "duckdb": ibis.udf.scalar.builtin(_hash, name="hash", signature=(("string",), "uint64")),
    "pyspark": ibis.udf.scalar.builtin(_hash, name="xxhash64", signature=(("string",), "int64")),
}


def hashed(con: Any, table: Any) -> Any:
    """The table with the codes customer and product: hashes of customer_id and product_id, of 64 bits.

    Numbers are grouped and joined twice as fast as texts. Of 16 million ids two have the same hash in one file of
    140,000; `prepare` finds that out when it writes.
    """
    code = HASHES[con.name]
    return table.mutate(customer=code(table.customer_id), product=code(table.product_id))


def keep_ids(con: Any, clean: Any, told: list[str]) -> None:
    """The tables `customer_ids` and `product_ids` of what the codes stand for, and `product_told`.

    The latter has how many reviews `n` tell the same of a product in the columns `told`. `clean` is as `hashed` gives.
    """
    facts = con.create_table("product_told", clean.group_by(["product", "product_id", *told]).agg(n=clean.count()))
    for name, table in (("customer", clean), ("product", facts)):
        con.create_table(f"{name}_ids", table.select(name, f"{name}_id").distinct())


def unique(con: Any, clean: Any, part: Callable[[Any], Any]) -> tuple[Any, int, int]:
    """One review per customer and product; how many exact duplicates and how many further repeats went.

    `clean` is as `hashed` gives, with stars, timestamp, given and what `part` needs to say which part a review is of;
    the table `coded` of the result has those and the codes. Given test reviews stay before others, then the latest,
    then that with the highest stars. Drops the table `checked`.
    """
    clean = clean.mutate(pair=clean.customer ^ clean.product)  # of equal pairs equal; hardly ever of others
    twice = clean.group_by("pair").agg(n=clean.count()).filter(lambda t: t.n > 1)
    twice = con.create_table("twice", twice.select("pair"))
    columns = [*PAIR, "stars", "timestamp", "given", "part"]
    again = clean.semi_join(twice, "pair")
    again = con.create_table("again", again.mutate(part=part(again)).select(columns))
    distinct = again.distinct()
    window = ibis.window(
        group_by=PAIR,
        order_by=[again.given.desc(), again.timestamp.desc(nulls_first=False), again.stars.desc(nulls_first=False)],
    )
    best = distinct.mutate(place=ibis.row_number().over(window)).filter(lambda t: t.place == 0).drop("place")
    total, kinds, left = (size(table) for table in (again, distinct, best))
    once = clean.anti_join(twice, "pair")
    once = once.mutate(part=part(once)).select(columns)
    coded = con.create_table("coded", once.union(best.cast({"part": once.part.type()})))  # files of Spark have int32
    drop(con, "checked", "twice")
    return coded, total - kinds, kinds - left


def both(con: Any) -> int:
    """Pairs that stand among the given test reviews and among the others (after `unique`)."""
    again = con.table("again")
    mixed = again.group_by(PAIR).agg(test=again.given.any(), other=(~again.given).any())
    return size(mixed.filter(mixed.test & mixed.other))


def core(con: Any, rows: Any, k: int) -> tuple[Any, int]:
    """The k-core of the reviews, and how many went: who has fewer than k reviews goes, until nobody has.

    Raises AmzrecError where nothing is left.
    """
    before = left = size(rows)
    turn = 0
    while k > 1:
        busy = rows
        for name in PAIR:
            enough = rows.group_by(name).agg(n=rows.count()).filter(lambda t: t.n >= k)
            busy = busy.semi_join(enough, name)
        rows = con.create_table(f"core_{turn % 2}", busy, overwrite=True)
        now = size(rows)
        if not now:
            raise AmzrecError(f"--min-reviews {k} leaves none of the {before:,} reviews: take a smaller number")
        if now == left:
            break
        left, turn = now, turn + 1
    return rows, before - left
