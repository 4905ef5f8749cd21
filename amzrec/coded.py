"""Reviews as numbers on the engine: ids coded, one review per customer and product, the k-core."""

from __future__ import annotations

from typing import Any

import ibis

from amzrec.errors import AmzrecError
from amzrec.sources.engine import drop, size

PAIR = ["customer", "product"]


def encode(con: Any, clean: Any, told: list[str]) -> Any:
    """The table `coded`: customer, product int32, stars, timestamp, given, part; drops the table `checked` of `clean`.

    `clean` has these, with customer_id and product_id; the tables `customer_ids` and `product_ids` keep what the codes
    stand for, `product_told` how many reviews `n` of a product_id tell the same in the columns `told`.
    """
    facts = con.create_table("product_told", clean.group_by(["product_id", *told]).agg(n=clean.count()))
    for name, table in (("customer", clean), ("product", facts)):
        ids = table.select(f"{name}_id").distinct()
        con.create_table(f"{name}_ids", ids.mutate(**{name: ibis.row_number().cast("int32")}))
    coded = clean.join(con.table("customer_ids"), "customer_id").join(con.table("product_ids"), "product_id")
    coded = con.create_table("coded", coded.select(*PAIR, "stars", "timestamp", "given", "part"))
    drop(con, "checked")
    return coded


def unique(con: Any, coded: Any) -> tuple[Any, int, int]:
    """One review per customer and product; how many exact duplicates and how many further repeats went.

    Given test reviews stay before others, then the latest, then that with the highest stars. Drops the table `coded`.
    """
    pairs = coded.group_by(PAIR).agg(
        stars=coded.stars.max(),
        timestamp=coded.timestamp.max(),
        given=coded.given.any(),
        part=coded.part.max(),
        n=coded.count(),
    )
    pairs = con.create_table("pairs", pairs)
    again = con.create_table("again", coded.semi_join(pairs.filter(pairs.n > 1), PAIR))
    drop(con, "coded")
    distinct = again.distinct()
    window = ibis.window(
        group_by=PAIR,
        order_by=[again.given.desc(), again.timestamp.desc(nulls_first=False), again.stars.desc(nulls_first=False)],
    )
    best = distinct.mutate(place=ibis.row_number().over(window)).filter(lambda t: t.place == 0).drop("place")
    total, kinds, left = (size(table) for table in (again, distinct, best))
    return pairs.filter(pairs.n == 1).drop("n").union(best), total - kinds, kinds - left


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
